//! The invented organisation "Alder & Finch": its people, teams, sites and groups, as typed data.
//!
//! Owns who exists, who leads whom and who is in which group; references are numbers, so that a rename or a removal
//! cannot leave a dangling name behind. It knows no LDAP (see `rendering`) and makes no change over time (see
//! `changes`). The same seed and time always make the same organisation.

use std::collections::BTreeSet;

use jiff::{Span, Timestamp};
use uuid::Uuid;

use super::{
    names::{LOCALES, Name, random_locale},
    random::Random,
};

/// An office: its city, its group, the start of its telephone numbers.
pub struct Site {
    pub city: &'static str,
    pub group: &'static str,
    dial: &'static str,
}

/// London, Berlin and Montréal use the ranges kept free for fiction; the others are shaped like numbers only.
pub const SITES: &[Site] = &[
    Site { city: "Berlin", group: "Berlin office", dial: "+49 30 23125 " },
    Site { city: "London", group: "London office", dial: "+44 20 7946 0" },
    Site { city: "Lisboa", group: "Lisbon office", dial: "+351 21 000 0" },
    Site { city: "Kraków", group: "Kraków office", dial: "+48 12 000 0" },
    Site { city: "Αθήνα", group: "Athens office", dial: "+30 21 0000 0" },
    Site { city: "大阪", group: "Osaka office", dial: "+81 6 0000 0" },
    Site { city: "Hà Nội", group: "Hanoi office", dial: "+84 24 0000 0" },
    Site { city: "Montréal", group: "Montréal office", dial: "+1 514 555 0" },
];

/// A department: its name and the title of who heads it.
pub struct Department {
    pub name: &'static str,
    pub head: &'static str,
}

#[rustfmt::skip]
pub const DEPARTMENTS: &[Department] = &[
    Department { name: "Executive Office", head: "Chief Executive Officer" },
    Department { name: "Engineering", head: "VP Engineering" },
    Department { name: "Product & Design", head: "VP Product" },
    Department { name: "Research", head: "Head of Research" },
    Department { name: "Production", head: "Chief Operating Officer" },
    Department { name: "Sales", head: "VP Sales" },
    Department { name: "Marketing", head: "VP Marketing" },
    Department { name: "Customer Care", head: "Head of Customer Care" },
    Department { name: "Finance", head: "Chief Financial Officer" },
    Department { name: "People & Culture", head: "Chief People Officer" },
    Department { name: "Legal", head: "General Counsel" },
    Department { name: "IT Operations", head: "Chief Information Officer" },
];

/// A team: where it belongs, its titles, how many of the people work there.
pub struct Team {
    pub name: &'static str,
    /// Index into [`DEPARTMENTS`].
    pub department: usize,
    /// The team whose group holds this team's group, when it is not the department's.
    inside: Option<&'static str>,
    pub lead: &'static str,
    pub titles: &'static [&'static str],
    weight: usize,
}

#[rustfmt::skip]
pub const TEAMS: &[Team] = &[
    Team { name: "Board Office", department: 0, inside: None, lead: "Chief of Staff", weight: 6, titles: &["Executive Assistant", "Board Secretary", "Strategy Analyst"] },
    Team { name: "Platform Engineering", department: 1, inside: None, lead: "Platform Engineering Lead", weight: 26, titles: &["Software Engineer", "Senior Software Engineer", "Staff Engineer"] },
    Team { name: "Site Reliability", department: 1, inside: Some("Platform Engineering"), lead: "Site Reliability Lead", weight: 14, titles: &["Site Reliability Engineer", "Senior Site Reliability Engineer"] },
    Team { name: "Database Operations", department: 1, inside: Some("Site Reliability"), lead: "Database Lead", weight: 7, titles: &["Database Administrator", "Senior Database Administrator"] },
    Team { name: "Application Engineering", department: 1, inside: None, lead: "Application Engineering Lead", weight: 32, titles: &["Software Engineer", "Senior Software Engineer", "Front-end Engineer", "Principal Engineer"] },
    Team { name: "Firmware", department: 1, inside: None, lead: "Firmware Lead", weight: 16, titles: &["Firmware Engineer", "Senior Firmware Engineer"] },
    Team { name: "Quality Assurance", department: 1, inside: None, lead: "Quality Lead", weight: 16, titles: &["Test Engineer", "Test Automation Engineer"] },
    Team { name: "Product Management", department: 2, inside: None, lead: "Group Product Manager", weight: 14, titles: &["Product Manager", "Senior Product Manager"] },
    Team { name: "Interaction Design", department: 2, inside: None, lead: "Design Lead", weight: 12, titles: &["Interaction Designer", "User Researcher", "Technical Writer"] },
    Team { name: "Acoustics Lab", department: 3, inside: None, lead: "Principal Acoustician", weight: 14, titles: &["Acoustician", "Research Engineer", "Doctoral Candidate"] },
    Team { name: "Materials Lab", department: 3, inside: None, lead: "Principal Materials Scientist", weight: 12, titles: &["Materials Scientist", "Laboratory Technician"] },
    Team { name: "Assembly", department: 4, inside: None, lead: "Assembly Supervisor", weight: 48, titles: &["Instrument Assembler", "Senior Instrument Assembler", "Apprentice"] },
    Team { name: "Finishing", department: 4, inside: None, lead: "Finishing Supervisor", weight: 26, titles: &["Lacquer Specialist", "Finisher", "Apprentice"] },
    Team { name: "Tool Shop", department: 4, inside: None, lead: "Master Toolmaker", weight: 14, titles: &["Toolmaker", "CNC Operator"] },
    Team { name: "Logistics", department: 4, inside: None, lead: "Logistics Manager", weight: 20, titles: &["Warehouse Associate", "Shipping Coordinator", "Customs Specialist"] },
    Team { name: "Sales Europe", department: 5, inside: None, lead: "Sales Director Europe", weight: 26, titles: &["Account Manager", "Senior Account Manager", "Sales Engineer"] },
    Team { name: "Sales Asia-Pacific", department: 5, inside: None, lead: "Sales Director Asia-Pacific", weight: 20, titles: &["Account Manager", "Dealer Manager", "Sales Engineer"] },
    Team { name: "Sales Americas", department: 5, inside: None, lead: "Sales Director Americas", weight: 14, titles: &["Account Manager", "Inside Sales Representative"] },
    Team { name: "Brand & Communications", department: 6, inside: None, lead: "Head of Brand", weight: 12, titles: &["Brand Manager", "Copywriter", "Graphic Designer"] },
    Team { name: "Events", department: 6, inside: None, lead: "Events Lead", weight: 9, titles: &["Event Manager", "Artist Relations Manager"] },
    Team { name: "Support Desk", department: 7, inside: None, lead: "Support Team Lead", weight: 30, titles: &["Support Agent", "Senior Support Agent", "Escalation Engineer"] },
    Team { name: "Repairs", department: 7, inside: None, lead: "Repairs Team Lead", weight: 20, titles: &["Repair Technician", "Senior Repair Technician"] },
    Team { name: "Accounting", department: 8, inside: None, lead: "Head of Accounting", weight: 16, titles: &["Accountant", "Accounts Payable Clerk", "Tax Specialist"] },
    Team { name: "Controlling", department: 8, inside: None, lead: "Head of Controlling", weight: 9, titles: &["Financial Controller", "Financial Analyst"] },
    Team { name: "Payroll", department: 8, inside: Some("Accounting"), lead: "Payroll Lead", weight: 6, titles: &["Payroll Specialist"] },
    Team { name: "Recruiting", department: 9, inside: None, lead: "Recruiting Lead", weight: 10, titles: &["Recruiter", "Sourcer"] },
    Team { name: "People Partners", department: 9, inside: None, lead: "Lead People Partner", weight: 10, titles: &["People Partner", "Learning Specialist"] },
    Team { name: "Contracts & Compliance", department: 10, inside: None, lead: "Deputy General Counsel", weight: 10, titles: &["Counsel", "Compliance Officer", "Paralegal"] },
    Team { name: "Service Desk", department: 11, inside: None, lead: "Service Desk Lead", weight: 16, titles: &["Service Desk Analyst", "Endpoint Engineer"] },
    Team { name: "Infrastructure", department: 11, inside: None, lead: "Infrastructure Lead", weight: 14, titles: &["Systems Administrator", "Network Engineer", "Senior Systems Administrator"] },
    Team { name: "Information Security", department: 11, inside: None, lead: "Information Security Officer", weight: 9, titles: &["Security Analyst", "Identity Engineer"] },
];

/// How an account came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Employee,
    Contractor,
    /// Used by a program, not by a human.
    Service,
}

/// A person's place in the line of managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Chief,
    Head,
    Lead,
    Staff,
}

/// Why an account cannot be used (draft-behera-ldap-password-policy, `pwdAccountLockedTime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Too many wrong passwords, at this time.
    Since(Timestamp),
    /// By an administrator, until one unlocks it.
    Permanent,
}

/// Number of a person, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(pub u32);

/// Number of a group; groups stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// One account.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: PersonId,
    pub uuid: Uuid,
    pub kind: Kind,
    pub name: Name,
    /// Shown instead of the name, for accounts that are not people.
    pub display_name: Option<String>,
    pub uid: String,
    /// The entry is named by its `cn` rather than its `uid`.
    pub is_named_by_cn: bool,
    pub mails: Vec<String>,
    pub employee_number: u32,
    /// Index into [`TEAMS`]; nothing for those who head a department.
    pub team: Option<usize>,
    /// Index into [`DEPARTMENTS`].
    pub department: usize,
    pub title: String,
    pub rank: Rank,
    pub manager: Option<PersonId>,
    /// Index into [`SITES`].
    pub site: usize,
    pub phone: Option<String>,
    pub description: Option<&'static str>,
    pub lock: Option<Lock>,
    pub must_change_password: bool,
    pub created: Timestamp,
    pub password_changed: Timestamp,
    /// The last change before the demo started.
    pub modified: Timestamp,
}

/// Whom a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    Person(PersonId),
    Group(GroupId),
}

/// The object class of a group, and with it how members are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupClass {
    Names,
    UniqueNames,
    Posix { gid: u32 },
}

/// Who decides about a group's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Follows the organisation: everybody of a team.
    Team(usize),
    /// Everybody of a site.
    Site(usize),
    /// Everybody who leads people.
    Leaders,
    Contractors,
    /// Given by hand, one by one.
    Assigned,
    /// Only holds groups or fixed members; never changed by hand.
    Fixed,
}

/// One group.
#[derive(Debug, Clone)]
pub struct Group {
    pub id: GroupId,
    pub uuid: Uuid,
    pub name: String,
    pub class: GroupClass,
    pub basis: Basis,
    pub description: String,
    pub members: Vec<Member>,
    pub created: Timestamp,
    pub modified: Timestamp,
}

/// All of it.
#[derive(Debug)]
pub struct Organisation {
    pub seed: u64,
    pub started: Timestamp,
    pub people: Vec<Person>,
    pub groups: Vec<Group>,
    pub next_person: u32,
    pub next_employee_number: u32,
    /// Names that were ever given away: a user name or mail address is not passed on to somebody else.
    pub uids_taken: BTreeSet<String>,
}

/// The mail domain; `.example` never resolves (RFC 2606).
pub const MAIL_DOMAIN: &str = "alder-finch.example";
/// People at the start, service accounts included.
pub const PEOPLE_AT_START: usize = 540;
const CONTRACTORS_AT_START: usize = 32;
const FIRST_EMPLOYEE_NUMBER: u32 = 10_001;

/// `now` minus some days and seconds; `now` itself should the calendar end before that.
pub fn earlier(now: Timestamp, days: usize, random: &mut Random) -> Timestamp {
    let seconds = days.saturating_mul(86_400).saturating_add(random.below(86_400));
    let span = Span::new().try_seconds(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default();
    now.checked_sub(span).unwrap_or(now)
}

impl Organisation {
    pub fn new(seed: u64, now: Timestamp) -> Self {
        let mut random = Random::new(seed);
        let mut it = Self {
            seed,
            started: now,
            people: Vec::new(),
            groups: Vec::new(),
            next_person: 1,
            next_employee_number: FIRST_EMPLOYEE_NUMBER,
            uids_taken: BTreeSet::new(),
        };
        it.fill_leaders(now, &mut random);
        it.fill_service_accounts(now, &mut random);
        it.fill_oddities(now, &mut random);
        while it.people.len() < PEOPLE_AT_START {
            let contractors = it.people.iter().filter(|person| person.kind == Kind::Contractor).count();
            let kind = if contractors < CONTRACTORS_AT_START { Kind::Contractor } else { Kind::Employee };
            let days = random.below(9 * 365);
            let hired = earlier(now, days, &mut random);
            it.join(kind, hired, &mut random);
        }
        it.fill_states(now, &mut random);
        it.fill_groups(&mut random);
        it
    }

    pub fn person(&self, id: PersonId) -> Option<&Person> {
        self.people.iter().find(|person| person.id == id)
    }

    pub fn person_mut(&mut self, id: PersonId) -> Option<&mut Person> {
        self.people.iter_mut().find(|person| person.id == id)
    }

    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    fn group_named(&self, name: &str) -> Option<GroupId> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.id)
    }

    /// Who leads the team, or the department when the team has no lead, or nobody.
    pub fn leader_of(&self, team: Option<usize>, department: usize) -> Option<PersonId> {
        let lead = self.people.iter().find(|person| person.rank == Rank::Lead && team.is_some() && person.team == team);
        let head = || self.people.iter().find(|person| person.rank <= Rank::Head && person.department == department);
        lead.or_else(head).map(|person| person.id)
    }

    /// A user name nobody has or had: `given.family`, then with a number.
    pub fn free_uid(&mut self, wanted: &str) -> String {
        let mut uid = wanted.to_owned();
        let mut number = 2;
        while !self.uids_taken.insert(uid.clone()) {
            uid = format!("{wanted}{number}");
            number += 1;
        }
        uid
    }

    /// A random telephone number of a site.
    pub fn phone(site: usize, random: &mut Random) -> Option<String> {
        SITES.get(site).map(|site| format!("{}{:03}", site.dial, random.below(1000)))
    }

    fn add_person(&mut self, kind: Kind, name: Name, created: Timestamp, random: &mut Random) -> &mut Person {
        let local = match kind {
            Kind::Employee | Kind::Service => name.local_part(),
            Kind::Contractor => format!("ext.{}", name.local_part()),
        };
        let uid = self.free_uid(&local);
        let home = LOCALES.get(name.locale).map_or(0, |locale| locale.home);
        let site = if random.chance(72) { home } else { random.below(SITES.len()) };
        let id = PersonId(self.next_person);
        self.next_person += 1;
        let employee_number = self.next_employee_number;
        self.next_employee_number += 1;
        let days = random.below(120);
        let recent = earlier(self.started, days, random);
        let person = Person {
            id,
            uuid: random.uuid(),
            kind,
            mails: vec![format!("{uid}@{MAIL_DOMAIN}")],
            uid,
            is_named_by_cn: false,
            name,
            display_name: None,
            employee_number,
            team: None,
            department: 0,
            title: String::new(),
            rank: Rank::Staff,
            manager: None,
            site,
            phone: if random.chance(88) { Self::phone(site, random) } else { None },
            description: None,
            lock: None,
            must_change_password: false,
            created,
            password_changed: recent.max(created),
            modified: recent.max(created),
        };
        self.people.push(person);
        // The push above makes the vector non-empty; an index of its own length would only hide that.
        let last = self.people.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "an element was pushed in the line above")]
        &mut self.people[last]
    }

    /// Somebody new, in a random team: the account, without groups.
    pub fn join(&mut self, kind: Kind, hired: Timestamp, random: &mut Random) -> PersonId {
        let locale = random_locale(random);
        let name = Name::of(locale, random);
        let team = Self::random_team(random);
        let department = TEAMS.get(team).map_or(0, |team| team.department);
        let manager = self.leader_of(Some(team), department);
        let title = TEAMS.get(team).and_then(|team| random.pick(team.titles)).copied().unwrap_or("Associate");
        let has_second_mail = random.chance(9);
        let has_no_mail = kind == Kind::Contractor && random.chance(12);
        let person = self.add_person(kind, name, hired, random);
        person.team = Some(team);
        person.department = department;
        person.title = if kind == Kind::Contractor { format!("{title} (contract)") } else { title.to_owned() };
        person.manager = manager;
        if has_no_mail {
            person.mails.clear();
        } else if has_second_mail {
            let short = person.name.local_part().chars().next().unwrap_or('x');
            let family =
                person.name.local_part().split_once('.').map(|(_, family)| family.to_owned()).unwrap_or_default();
            person.mails.push(format!("{short}{family}.{}@{MAIL_DOMAIN}", person.employee_number));
        }
        person.id
    }

    fn random_team(random: &mut Random) -> usize {
        let mut left = random.below(TEAMS.iter().map(|team| team.weight).sum());
        for (index, team) in TEAMS.iter().enumerate() {
            if left < team.weight {
                return index;
            }
            left -= team.weight;
        }
        0
    }

    fn fill_leaders(&mut self, now: Timestamp, random: &mut Random) {
        let mut chief = None;
        for (index, department) in DEPARTMENTS.iter().enumerate() {
            let days = 2500 + random.below(900);
            let since = earlier(now, days, random);
            let locale = random_locale(random);
            let name = Name::of(locale, random);
            let person = self.add_person(Kind::Employee, name, since, random);
            person.department = index;
            person.title = department.head.to_owned();
            person.manager = chief;
            person.rank = if chief.is_none() { Rank::Chief } else { Rank::Head };
            chief = chief.or(Some(person.id));
        }
        for (index, team) in TEAMS.iter().enumerate() {
            let days = 900 + random.below(1800);
            let since = earlier(now, days, random);
            let locale = random_locale(random);
            let name = Name::of(locale, random);
            let head = self.leader_of(None, team.department);
            let person = self.add_person(Kind::Employee, name, since, random);
            person.team = Some(index);
            person.department = team.department;
            person.title = team.lead.to_owned();
            person.rank = Rank::Lead;
            person.manager = head;
        }
    }

    fn fill_service_accounts(&mut self, now: Timestamp, random: &mut Random) {
        let owner = TEAMS.iter().position(|team| team.name == "Infrastructure");
        let department = owner.and_then(|team| TEAMS.get(team)).map_or(0, |team| team.department);
        let lead = self.leader_of(owner, department);
        let accounts = [
            ("svc-backup", "Backup service", "Nightly backups of file servers"),
            ("svc-scanner", "Scan to mail", "Multi-function printers, all offices"),
            ("svc-monitoring", "Monitoring probe", "Synthetic sign-ins, every five minutes"),
            ("svc-payroll", "Payroll interface", "Exports to the payroll provider on the 25th"),
            ("svc-build", "Build farm", "Firmware and application builds"),
            ("svc-legacy-crm", "Legacy CRM connector", "To be retired; owner has left"),
        ];
        for (uid, shown, description) in accounts {
            let name = Name::plain("", shown);
            let uid = self.free_uid(uid);
            let days = 300 + random.below(2000);
            let since = earlier(now, days, random);
            let person = self.add_person(Kind::Service, name, since, random);
            person.uid = uid;
            person.display_name = Some(shown.to_owned());
            person.mails.clear();
            person.team = owner;
            person.department = department;
            person.title = "Service account".to_owned();
            person.manager = lead;
            person.site = 0;
            person.phone = None;
            person.description = Some(description);
            person.password_changed = since;
        }
    }

    /// What real directories hold and tidy ones do not: names that need escaping, and one address for two people.
    fn fill_oddities(&mut self, now: Timestamp, random: &mut Random) {
        for (given, family, shown) in [
            ("Barnaby", "Quill", "Quill, Barnaby + Sons \\ Carpentry"),
            ("Wilhelmina", "Oak", "#1 Varnish; \"Oak & Lac\" <Ltd>"),
        ] {
            let since = earlier(now, 700, random);
            let id = self.join(Kind::Contractor, since, random);
            let uid = self.free_uid(&format!("ext.{}.{}", given.to_lowercase(), family.to_lowercase()));
            if let Some(person) = self.person_mut(id) {
                person.name = Name::plain(given, family);
                person.mails = vec![format!("{uid}@{MAIL_DOMAIN}")];
                person.uid = uid;
                person.display_name = Some(shown.to_owned());
                person.is_named_by_cn = true;
                person.description = Some("Supplier account, named by its company");
            }
        }
        // Mother and daughter who share the workshop's mailbox.
        let shared = format!("workshop.lisboa@{MAIL_DOMAIN}");
        let locale = LOCALES.iter().position(|locale| locale.language == "pt").unwrap_or(0);
        let mother = Name::of(locale, random);
        let daughter = loop {
            let name = Name::of(locale, random);
            if name.given != mother.given {
                break Name { family: mother.family.clone(), family_latin: mother.family_latin.clone(), ..name };
            }
        };
        let team = TEAMS.iter().position(|team| team.name == "Finishing");
        let department = team.and_then(|team| TEAMS.get(team)).map_or(0, |team| team.department);
        let lead = self.leader_of(team, department);
        for name in [mother, daughter] {
            let since = earlier(now, 1200, random);
            let person = self.add_person(Kind::Employee, name, since, random);
            person.mails = vec![shared.clone()];
            person.team = team;
            person.department = department;
            person.title = "Lacquer Specialist".to_owned();
            person.manager = lead;
            person.site = 2;
        }
    }

    fn fill_states(&mut self, now: Timestamp, random: &mut Random) {
        for person in &mut self.people {
            if person.uid == "svc-legacy-crm" {
                person.lock = Some(Lock::Permanent);
            }
            if person.rank != Rank::Staff || person.kind == Kind::Service {
                continue;
            }
            match random.below(100) {
                0 | 1 => person.lock = Some(Lock::Since(earlier(now, 0, random).max(person.created))),
                2..5 => person.lock = Some(Lock::Permanent),
                5..8 => person.must_change_password = true,
                _ => {}
            }
            if person.kind == Kind::Employee && random.chance(2) {
                // Workshop staff without a mailbox.
                person.mails.clear();
            }
        }
    }

    fn add_group(
        &mut self,
        name: &str,
        class: GroupClass,
        basis: Basis,
        description: &str,
        members: Vec<Member>,
        random: &mut Random,
    ) -> GroupId {
        let id = GroupId(u32::try_from(self.groups.len()).unwrap_or(u32::MAX));
        let days = 400 + random.below(2500);
        let created = earlier(self.started, days, random);
        let days = random.below(200);
        let modified = earlier(self.started, days, random);
        self.groups.push(Group {
            id,
            uuid: random.uuid(),
            name: name.to_owned(),
            class,
            basis,
            description: description.to_owned(),
            members,
            created,
            modified,
        });
        id
    }

    /// Everybody for whom the group of this basis is meant.
    pub fn belongs(person: &Person, basis: Basis) -> bool {
        match basis {
            Basis::Team(team) => person.team == Some(team) && person.kind != Kind::Service,
            Basis::Site(site) => person.site == site && person.kind != Kind::Service,
            Basis::Leaders => person.rank != Rank::Staff,
            Basis::Contractors => person.kind == Kind::Contractor,
            Basis::Assigned | Basis::Fixed => false,
        }
    }

    fn people_of(&self, basis: Basis) -> Vec<Member> {
        self.people
            .iter()
            .filter(|person| Self::belongs(person, basis))
            .map(|person| Member::Person(person.id))
            .collect()
    }

    /// Some random people of a department, or of all.
    fn some_people(&self, department: Option<&str>, count: usize, random: &mut Random) -> Vec<Member> {
        let mut candidates: Vec<PersonId> = self
            .people
            .iter()
            .filter(|person| person.kind != Kind::Service)
            .filter(|person| {
                department.is_none_or(|name| DEPARTMENTS.get(person.department).is_some_and(|d| d.name == name))
            })
            .map(|person| person.id)
            .collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !candidates.is_empty() {
            let index = random.below(candidates.len());
            chosen.push(Member::Person(candidates.swap_remove(index)));
        }
        chosen.sort();
        chosen
    }

    fn fill_groups(&mut self, random: &mut Random) {
        use GroupClass::{Names, Posix, UniqueNames};
        let mut team_groups = Vec::new();
        for (index, team) in TEAMS.iter().enumerate() {
            let members = self.people_of(Basis::Team(index));
            let description = format!("Everybody in {}", team.name);
            team_groups.push(self.add_group(team.name, Names, Basis::Team(index), &description, members, random));
        }
        for (team, id) in TEAMS.iter().zip(&team_groups) {
            let outer = team.inside.and_then(|outer| self.group_named(outer));
            if let Some(outer) = self.groups.iter_mut().find(|group| Some(group.id) == outer) {
                outer.members.push(Member::Group(*id));
            }
        }
        let mut department_groups = Vec::new();
        for (index, department) in DEPARTMENTS.iter().enumerate() {
            let head = self.people.iter().find(|person| person.rank <= Rank::Head && person.department == index);
            let mut members: Vec<Member> = head.map(|person| Member::Person(person.id)).into_iter().collect();
            for (team, id) in TEAMS.iter().zip(&team_groups) {
                if team.department == index && team.inside.is_none() {
                    members.push(Member::Group(*id));
                }
            }
            let description = format!("Department {}", department.name);
            department_groups.push(self.add_group(department.name, Names, Basis::Fixed, &description, members, random));
        }
        let everybody = department_groups.iter().copied().map(Member::Group).collect();
        self.add_group(
            "All staff",
            Names,
            Basis::Fixed,
            "Every employee and contractor, by department",
            everybody,
            random,
        );
        for (index, site) in SITES.iter().enumerate() {
            let members = self.people_of(Basis::Site(index));
            let description = format!("People who work in {}", site.city);
            self.add_group(site.group, Names, Basis::Site(index), &description, members, random);
        }
        let leaders = self.people_of(Basis::Leaders);
        self.add_group("Managers", Names, Basis::Leaders, "Everybody who leads people", leaders, random);
        let contractors = self.people_of(Basis::Contractors);
        self.add_group("Contractors", Names, Basis::Contractors, "External people under contract", contractors, random);

        // Access: (name, class, description, nested groups, department of extra people, how many of them).
        type Access = (&'static str, GroupClass, &'static str, &'static [&'static str], Option<&'static str>, usize);
        const ACCESS: &[Access] = &[
            ("VPN users", Names, "Remote access", &["Engineering", "IT Operations", "Sales", "Managers"], None, 24),
            ("Wi-Fi guest sponsors", Names, "May invite guests to the network", &["Managers"], None, 9),
            (
                "Git committers",
                Names,
                "Push access to source repositories",
                &["Engineering", "Research"],
                Some("IT Operations"),
                4,
            ),
            ("Git administrators", Names, "Repository and runner settings", &[], Some("Engineering"), 5),
            ("Production deployers", Names, "May release to customers", &["Site Reliability"], Some("Engineering"), 8),
            (
                "Database administrators",
                Names,
                "Full rights on production databases",
                &["Database Operations"],
                Some("IT Operations"),
                2,
            ),
            (
                "Domain operators",
                Names,
                "Privileged: account operators of the domain",
                &["Infrastructure"],
                Some("IT Operations"),
                3,
            ),
            ("Domain administrators", Names, "Privileged: full control of the domain", &[], Some("IT Operations"), 3),
            (
                "Backup operators",
                Names,
                "Privileged: read everything, restore anything",
                &["Domain operators"],
                Some("IT Operations"),
                2,
            ),
            (
                "Password reset delegates",
                Names,
                "May reset passwords of staff",
                &["Service Desk"],
                Some("People & Culture"),
                2,
            ),
            ("Payroll system", Names, "Restricted: salary data", &["Payroll"], Some("People & Culture"), 3),
            ("ERP users", Names, "Enterprise resource planning", &["Finance", "Production"], None, 12),
            ("CRM users", Names, "Customer records", &["Sales", "Marketing", "Customer Care"], None, 6),
            ("CRM administrators", Names, "Customer records: settings and exports", &[], Some("Sales"), 4),
            ("Wiki editors", Names, "May write in the company wiki", &["All staff"], None, 3),
            ("On-call rotation", Names, "Woken at night", &[], Some("Engineering"), 12),
            (
                "Finance, Controlling + Audit",
                Names,
                "Quarterly close; name kept from the old system",
                &["Accounting", "Controlling"],
                Some("Legal"),
                2,
            ),
            ("Works council", UniqueNames, "Elected representatives", &[], None, 11),
            ("First aiders", UniqueNames, "Trained first aiders, all sites", &[], None, 26),
            ("Project Nightingale", UniqueNames, "New concert series", &["Acoustics Lab"], Some("Product & Design"), 7),
            ("linux-admins", Posix { gid: 20_010 }, "sudo on servers", &[], Some("IT Operations"), 8),
            ("linux-users", Posix { gid: 20_000 }, "Shell accounts", &[], Some("Engineering"), 60),
            ("build", Posix { gid: 20_020 }, "Build farm file access", &[], Some("Engineering"), 14),
        ];
        for (name, class, description, nested, department, count) in ACCESS {
            let mut members: Vec<Member> =
                nested.iter().filter_map(|name| self.group_named(name)).map(Member::Group).collect();
            members.extend(self.some_people(*department, *count, random));
            self.add_group(name, *class, Basis::Assigned, description, members, random);
        }
        // A cycle of nesting, as grows where groups are handed from project to project.
        let mut ring = Vec::new();
        for name in ["Project Kingfisher", "Project Kingfisher reviewers", "Project Kingfisher partners"] {
            let members = self.some_people(Some("Product & Design"), 4, random);
            ring.push(self.add_group(name, Names, Basis::Assigned, "Cross-department project", members, random));
        }
        let next: Vec<GroupId> = ring.iter().cycle().skip(1).take(ring.len()).copied().collect();
        for (id, next) in ring.iter().zip(next) {
            if let Some(group) = self.groups.iter_mut().find(|group| group.id == *id) {
                group.members.push(Member::Group(next));
            }
        }
        let build: Vec<Member> = self
            .people
            .iter()
            .filter(|person| person.uid == "svc-build")
            .map(|person| Member::Person(person.id))
            .collect();
        if let Some(group) = self.groups.iter_mut().find(|group| group.name == "build") {
            group.members.extend(build);
        }
        let services = self
            .people
            .iter()
            .filter(|person| person.kind == Kind::Service)
            .map(|person| Member::Person(person.id))
            .collect();
        self.add_group("Service accounts", Names, Basis::Fixed, "Accounts used by programs", services, random);
    }
}
