//! Where the sample organisation's people get their names: many languages and scripts, all invented combinations.
//!
//! Owns the word lists and the spelling of a name in ASCII (for user names and mail addresses). A console that only
//! saw English names would hide its mistakes in searching, sorting and folding, hence the variety. No list entry may
//! name a living person by both names.

use unicode_normalization::UnicodeNormalization as _;

use super::random::Random;

/// One language: its names, and how they are put together.
pub struct Locale {
    /// BCP 47 language tag, for `preferredLanguage`.
    pub language: &'static str,
    /// The site where most speakers work; an index into `organisation::SITES`.
    pub home: usize,
    /// How many of 100 or so people have names of this language.
    pub weight: usize,
    family_first: bool,
    /// Words separated by blanks; `_` stands for a blank; `native=Latin` where the script is not Latin; `^f` and `^m`
    /// where a language has forms for women and men that go with each other only.
    given: &'static str,
    family: &'static str,
}

#[rustfmt::skip]
pub const LOCALES: &[Locale] = &[
    Locale { language: "en", home: 1, weight: 12, family_first: false,
        given: "Alice Oliver Grace Henry Ruth Edmund Harriet Leonard Maisie Rupert Beatrice Callum Imogen Desmond Nora Winifred Toby Philippa",
        family: "Alder Finch Hawthorn Pemberton Whitlock Ashdown Carrow Dunmore Ellery Fairweather Holloway Kettering Lockwood Marchbanks Thackray Wainwright" },
    Locale { language: "ga", home: 1, weight: 4, family_first: false,
        given: "Aoife^f Ciarán^m Niamh^f Séamus^m Róisín^f Pádraig^m Sinéad^f Eoin^m Gráinne^f Tadhg^m",
        family: "Ó_Briain^m Ní_Dhomhnaill^f O'Shaughnessy Mac_Giolla^m Ó_Súilleabháin^m O'Driscoll McGillycuddy Ní_Chonaill^f Ní_Mháille^f Nic_Giolla^f" },
    Locale { language: "de", home: 0, weight: 13, family_first: false,
        given: "Jürgen Käthe Björn Anneliese Lothar Grit Matthias Änne Sören Ulrike Götz Heidrun Volker Mareike Thorsten Sybille Jörg-Uwe",
        family: "Müßig Größner Schäufele Bäumler Weißhaupt Köhlbrand Überlacker von_der_Heide Rönnebeck Lüdersen Tannhäuser Öttinger Vogelsang Strohmeyer Drechsler Zumwinkel" },
    Locale { language: "fr", home: 7, weight: 8, family_first: false,
        given: "Chloé Étienne Aurélie Benoît Maëlle François Noémie Loïc Hélène Gaël Anaïs Théodore Zoé Rémi",
        family: "Lefèvre Béchard D'Amboise L'Hermite Château Desrosiers Bénézet Gaudreault Côté-Tremblay Maisonneuve Œuvrard Tréguier" },
    Locale { language: "pt", home: 2, weight: 8, family_first: false,
        given: "João Conceição Inês Gonçalo Mafalda Tomás Beatriz Luís Assunção Simão Íris Duarte",
        family: "Magalhães Simões da_Conceição Vilaça Brandão dos_Anjos Falcão Guimarães Sequeira Leitão Estêvão Vasconcelos" },
    Locale { language: "es", home: 2, weight: 6, family_first: false,
        given: "Begoña Íñigo Lucía Andrés Ángela Joaquín Nuria Raúl Ximena Óscar",
        family: "Ibáñez_Peña Muñoz_Lara Agüero de_la_Fuente Zúñiga_Ríos Cañizares Etxeberria Güell_i_Puig Ordóñez Villaseñor" },
    Locale { language: "pl", home: 3, weight: 9, family_first: false,
        given: "Łukasz^m Małgorzata^f Zdzisław^m Grażyna^f Świętosława^f Paweł^m Jędrzej^m Róża^f Michał^m Żaneta^f Wojciech^m Bożena^f",
        family: "Wiśniewolski^m Błaszczyński^m Żółkiewska^f Śniegocka^f Gąsiorek Śliwiński^m Dąbrowiecka^f Łęcki^m Źródłowski^m Kędzior Pawłowicz Jaźwiński^m Świątek-Róg" },
    Locale { language: "cs", home: 3, weight: 4, family_first: false,
        given: "Jiří^m Věra^f Zdeněk^m Božena^f Řehoř^m Květa^f Ondřej^m Šárka^f Luboš^m Žofie^f",
        family: "Dvořáček^m Příhodová^f Šťastný^m Růžička^m Ježek^m Čermáková^f Vránová^f Ježková^f Hlaváč^m Úlehla^m Kočí Břeský^m" },
    Locale { language: "sv", home: 0, weight: 5, family_first: false,
        given: "Åsa Göran Maj-Britt Sören Märta Håkan Øyvind Jørgen Solveig Bjørg",
        family: "Ångström Björkegren Sjöqvist Østergård Lindström-Åhl Håkonsen Tjärnlund Æbelø Grönvall Myhre" },
    Locale { language: "is", home: 1, weight: 2, family_first: false,
        given: "Þórdís^f Guðmundur^m Æsa^f Sigríður^f Hrafnkell^m Ásgeir^m",
        family: "Þorsteinsdóttir^f Guðlaugsson^m Æviðsson^m Hallgrímsdóttir^f Ólafsson^m Ásmundsdóttir^f" },
    Locale { language: "tr", home: 0, weight: 5, family_first: false,
        given: "Işıl Çağatay Gülşah Ömer Şebnem İbrahim Tuğçe Yiğit Özlem Ufuk",
        family: "Çelikkaya Yıldırım Öztürkmen Güneş Şahinoğlu Karagöz İnanç Ağaoğlu Ünsal Dağdelen" },
    Locale { language: "el", home: 4, weight: 6, family_first: false,
        given: "Ελένη=Eleni^f Γιώργος=Giorgos^m Κατερίνα=Katerina^f Θανάσης=Thanasis^m Ιωάννα=Ioanna^f Σπύρος=Spyros^m Ευαγγελία=Evangelia^f Παύλος=Pavlos^m Χρύσα=Chrysa^f Ξενοφών=Xenofon^m",
        family: "Παπαδοκώστας=Papadokostas^m Γεωργαλής=Georgalis^m Μαυρίδου=Mavridou^f Θεοφίλου=Theofilou^f Ξυδάκης=Xydakis^m Σταθάκου=Stathakou^f Ψαρράς=Psarras^m Κουτσογιάννη=Koutsogianni^f Αρβανίτης=Arvanitis^m" },
    Locale { language: "ru", home: 0, weight: 4, family_first: false,
        given: "Наталья=Natalya^f Дмитрий=Dmitry^m Любовь=Lyubov^f Юрий=Yury^m Ксения=Ksenia^f Пётр=Pyotr^m Игнат=Ignat^m Зоя=Zoya^f",
        family: "Берёзкина=Beryozkina^f Щеглов=Shcheglov^m Жаворонкова=Zhavoronkova^f Ольховский=Olkhovsky^m Лебедь=Lebed Соловьёва=Solovyova^f Чижов=Chizhov^m Ястребова=Yastrebova^f" },
    Locale { language: "uk", home: 3, weight: 5, family_first: false,
        given: "Оксана=Oksana Тарас=Taras Ярина=Yaryna Євген=Yevhen Ївга=Yivha Соломія=Solomiia Гнат=Hnat Лілія=Liliia",
        family: "Вільшанко=Vilshanko Зозуля=Zozulia Щиглевич=Shchyhlevych Ґедзь=Gedz Журавель=Zhuravel Калинчук=Kalynchuk Їжакевич=Yizhakevych" },
    Locale { language: "ar", home: 7, weight: 5, family_first: false,
        given: "ليلى=Layla عمر=Omar نورهان=Nourhan يوسف=Youssef هدى=Huda خالد=Khalid سلمى=Salma طارق=Tariq",
        family: "الحدادي=Al-Haddadi بن_سالم=Ben_Salem النجار=Al-Najjar الشامي=Al-Shami قاسمي=Kasmi العطار=Al-Attar زيتون=Zaytoun" },
    Locale { language: "he", home: 4, weight: 2, family_first: false,
        given: "נועה=Noa אורי=Uri תמר=Tamar יונתן=Yonatan שירה=Shira",
        family: "אלוני=Aloni בר־און=Bar-On צפרירי=Tsafriri גפן=Gefen" },
    Locale { language: "hi", home: 1, weight: 5, family_first: false,
        given: "अनन्या=Ananya रोहित=Rohit मीनाक्षी=Meenakshi अर्जुन=Arjun कविता=Kavita विवेक=Vivek इशिता=Ishita",
        family: "चतुर्वेदी=Chaturvedi श्रीवास्तव=Srivastava देशपांडे=Deshpande कुलकर्णी=Kulkarni बैनर्जी=Banerji ठाकुर=Thakur" },
    Locale { language: "ja", home: 5, weight: 9, family_first: true,
        given: "花子=Hanako 健太=Kenta 美咲=Misaki 翔=Sho 陽菜=Hina 大輔=Daisuke 結衣=Yui 誠=Makoto さくら=Sakura 蓮=Ren 真由美=Mayumi 拓也=Takuya",
        family: "榛木=Hannoki 佐々木=Sasaki 鶸田=Hiwada 渡邉=Watanabe 小鳥遊=Takanashi 東海林=Shoji 長谷川=Hasegawa 五十嵐=Igarashi 高橋=Takahashi 服部=Hattori" },
    Locale { language: "zh", home: 6, weight: 5, family_first: true,
        given: "晓雯=Xiaowen 建国=Jianguo 丽华=Lihua 子涵=Zihan 志强=Zhiqiang 雨桐=Yutong 明哲=Mingzhe",
        family: "欧阳=Ouyang 陈=Chen 诸葛=Zhuge 林=Lin 司徒=Situ 郑=Zheng 慕容=Murong" },
    Locale { language: "ko", home: 5, weight: 4, family_first: true,
        given: "서연=Seoyeon 민준=Minjun 하은=Haeun 도윤=Doyun 지우=Jiwoo 은정=Eunjeong",
        family: "남궁=Namgung 선우=Seonwoo 황보=Hwangbo 제갈=Jegal 김=Kim 독고=Dokgo" },
    Locale { language: "vi", home: 6, weight: 7, family_first: true,
        given: "Thị_Hồng_Nhung Quốc_Tuấn Ngọc_Ánh Đức_Thịnh Mỹ_Duyên Hữu_Phước Bảo_Châu Thế_Vinh Lệ_Quyên",
        family: "Nguyễn Trần Đặng Phạm Huỳnh Võ Bùi Đỗ Lý" },
    Locale { language: "yo", home: 1, weight: 3, family_first: false,
        given: "Adébáyọ̀ Olúwaṣeun Fọláṣadé Títílayọ̀ Ṣọlá Ẹniọlá",
        family: "Adéyẹmí Ògúnbíyì Ọláwálé Ṣówándé Fálànà" },
];

/// A person's names as the directory holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Index into [`LOCALES`].
    pub locale: usize,
    pub given: String,
    pub family: String,
    /// The same in ASCII letters; equal words keep their blanks and hyphens.
    pub given_latin: String,
    pub family_latin: String,
    pub form: Form,
}

/// Whose form a word is, in languages that tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Any,
    Female,
    Male,
}

impl Form {
    fn goes_with(self, other: Self) -> bool {
        self == Self::Any || other == Self::Any || self == other
    }
}

impl Name {
    /// A random full name of one language.
    pub fn of(locale: usize, random: &mut Random) -> Self {
        let (given, given_latin, form) = word(LOCALES.get(locale).map_or("", |l| l.given), Form::Any, random);
        let (family, family_latin, _) = word(LOCALES.get(locale).map_or("", |l| l.family), form, random);
        Self { locale, given, family, given_latin, family_latin, form }
    }

    /// A name as given, in Latin letters, of no particular language.
    pub fn plain(given: &str, family: &str) -> Self {
        let (given, family) = (given.to_owned(), family.to_owned());
        Self { locale: 0, given_latin: given.clone(), family_latin: family.clone(), given, family, form: Form::Any }
    }

    /// The same person with another family name of the same language (a marriage).
    pub fn with_other_family(&self, random: &mut Random) -> Self {
        let list = LOCALES.get(self.locale).map_or("", |locale| locale.family);
        let (family, family_latin, _) = word(list, self.form, random);
        Self { family, family_latin, ..self.clone() }
    }

    fn joined(&self, given: &str, family: &str, by: &str) -> String {
        if LOCALES.get(self.locale).is_some_and(|locale| locale.family_first) {
            format!("{family}{by}{given}")
        } else {
            format!("{given}{by}{family}")
        }
    }

    /// The full name in the language's own order and script. Chinese, Japanese and Korean scripts write no blank.
    pub fn full(&self) -> String {
        let is_spaced = self.family.chars().all(|c| c < '\u{2E80}');
        self.joined(&self.given, &self.family, if is_spaced { " " } else { "" })
    }

    /// The full name in Latin letters, given name first, when the own script is another one.
    pub fn full_latin(&self) -> Option<String> {
        let is_latin = self.full().chars().all(|c| c < '\u{0370}' || ('\u{1E00}'..'\u{2000}').contains(&c));
        (!is_latin).then(|| format!("{} {}", self.given_latin, self.family_latin))
    }

    /// User name and left side of the mail address: lower-case ASCII, `given.family`.
    pub fn local_part(&self) -> String {
        let part = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>().to_lowercase()
        };
        // Three given names would make a user name nobody can type.
        let given = self.given_latin.rsplit(' ').next().unwrap_or_default();
        format!("{}.{}", part(given), part(&self.family_latin))
    }
}

/// A random language, by weight.
pub fn random_locale(random: &mut Random) -> usize {
    let total = LOCALES.iter().map(|locale| locale.weight).sum();
    let mut left = random.below(total);
    for (index, locale) in LOCALES.iter().enumerate() {
        if left < locale.weight {
            return index;
        }
        left -= locale.weight;
    }
    0
}

/// A random word that goes with a form: itself, its Latin spelling, its own form.
fn word(list: &str, with: Form, random: &mut Random) -> (String, String, Form) {
    let words: Vec<(&str, Form)> = list
        .split_ascii_whitespace()
        .map(|word| match word.split_once('^') {
            Some((word, "f")) => (word, Form::Female),
            Some((word, _)) => (word, Form::Male),
            None => (word, Form::Any),
        })
        .filter(|(_, form)| form.goes_with(with))
        .collect();
    let (word, form) = random.pick(&words).copied().unwrap_or(("Alder", Form::Any));
    let word = word.replace('_', " ");
    match word.split_once('=') {
        Some((native, latin)) => (native.to_owned(), latin.to_owned(), form),
        None => {
            let latin = ascii(&word);
            (word, latin, form)
        }
    }
}

/// The Latin letters of a word without their marks; letters that have no plain form get their usual spelling.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.nfd() {
        match c {
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'Æ' => out.push_str("Ae"),
            'Œ' => out.push_str("Oe"),
            'œ' => out.push_str("oe"),
            'ø' => out.push('o'),
            'Ø' => out.push('O'),
            'ł' => out.push('l'),
            'Ł' => out.push('L'),
            'đ' | 'ð' => out.push('d'),
            'Đ' => out.push('D'),
            'Þ' => out.push_str("Th"),
            'þ' => out.push_str("th"),
            'ı' => out.push('i'),
            c if c.is_ascii() => out.push(c),
            _ => {}
        }
    }
    out
}
