//! exploration
use crate::fixtures::{programs, samba::{self, Samba, Size}};
use std::process::Command;
#[tokio::test]
async fn explore() {
    let samba = Samba::start(Size::SMALL);
    for name in ["_ldap._tcp.dc._msdcs.ad.example.test", "_ldap._tcp.Default-First-Site-Name._sites.dc._msdcs.ad.example.test", "_ldap._tcp.gc._msdcs.ad.example.test", "_ldap._tcp.Default-First-Site-Name._sites.gc._msdcs.ad.example.test"] {
        let r = bailiwick::connectors::ldap::srv::Resolver::new(&["10.99.1.2:53".parse().expect("x")]).expect("r");
        println!("{name}: {:?}", r.records(name).await);
        println!("{:?}", r.addresses("dc1.ad.example.test").await);
        println!("{:?}", r.records("_ldap._tcp.dc._msdcs.other.test").await);
    }
    for (uri, base) in [("ldaps://10.99.1.2:3269", "DC=ad,DC=example,DC=test"), ("ldaps://10.99.1.2:3269", ""), ("ldaps://10.99.1.2:636", "DC=ad,DC=example,DC=test"), ("ldaps://10.99.1.2:636", "")] {
        let mut c = samba.tool("ldapsearch");
        c.args(["-H", uri, "-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-b", base, "(&(objectCategory=person)(objectClass=user))", "*", "memberOf", "accountExpires"]);
        let o = c.output().expect("x");
        let t = String::from_utf8_lossy(&o.stdout).into_owned();
        println!("{uri} {base}: {} {} dns {} refs {}", o.status, String::from_utf8_lossy(&o.stderr), t.lines().filter(|l| l.starts_with("dn:")).count(), t.lines().filter(|l| l.starts_with("# refldap")).count());
        println!("{}", t.lines().take(60).collect::<Vec<_>>().join("\n"));
    }
    let mut c = samba.tool("ldapsearch");
    c.args(["-LLL", "-o", "ldif-wrap=no", "-b", "CN=Schema,CN=Configuration,DC=ad,DC=example,DC=test", "(&(objectClass=attributeSchema)(isMemberOfPartialAttributeSet=TRUE))", "lDAPDisplayName"]);
    println!("{}", String::from_utf8_lossy(&programs::run(&mut c)).lines().filter(|l| l.starts_with("lDAP")).collect::<Vec<_>>().join(" "));
    for args in [vec!["dns","add","10.99.1.2","_msdcs.ad.example.test","_ldap._tcp.dc","SRV","dc0.ad.example.test 389 0 100"], vec!["dns","add","10.99.1.2","ad.example.test","dc0","A","10.99.1.3"]] {
        let mut c = Command::new("nsenter");
        c.args(["--target", &samba.pid(), "--mount", "--net", "samba-tool"]).args(args).args(["-U","Administrator%Adm1n-secret!","-s","/mnt/dc/etc/smb.conf"]);
        let o = c.output().expect("x"); println!("{} {} {}", o.status, String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    }
    let r = bailiwick::connectors::ldap::srv::Resolver::new(&["10.99.1.2:53".parse().expect("x")]).expect("r");
    println!("{:?}", r.records("_ldap._tcp.dc._msdcs.ad.example.test").await);
    let _ = samba::BASE;
}
