//! Real clients of a dozen protocols on one port of one daemon, each with the
//! real server that the first bytes of its connection ask for.

use crate::common::*;
use crate::tests;

mod backends;
mod clients;
mod site;
mod tls;

use backends::{Backend, postgres_folder};
use clients::*;
use site::Site;

tests![
    ssh_reaches_sshd,
    a_silent_client_hears_the_banner_of_sshd,
    git_reaches_its_daemon,
    rsync_reaches_its_daemon,
    curl_reaches_the_server_of_its_host_and_path,
    curl_with_prior_knowledge_reaches_an_http2_server,
    curl_reaches_the_tls_server_of_its_name,
    openssl_reaches_the_tls_server_of_its_name,
    a_post_quantum_hello_in_many_records_reaches_its_server,
    psql_reaches_postgres_with_and_without_tls,
    redis_cli_reaches_redis,
    mosquitto_pub_and_sub_reach_the_broker,
    dig_reaches_the_server_of_its_zone,
    a_socks_client_comes_back_to_the_same_port,
    all_clients_at_the_same_time: 120,
];

/// One kind of traffic.
struct Traffic {
    /// Programs and the packages that have them.
    needs: &'static [(&'static str, &'static str)],
    backends: &'static [Backend],
    /// Before anybody talks.
    prepare: fn(&Site),
    talk: fn(&Site),
    /// The services that are given its connections.
    services: &'static [&'static str],
}

const SSH: Traffic = Traffic {
    needs: &[("sshd", "openssh-server"), ("ssh", "openssh-client")],
    backends: &[],
    prepare: make_ssh_keys,
    talk: ssh,
    services: &["ssh"],
};

const SILENT: Traffic = Traffic {
    needs: &[("sshd", "openssh-server"), ("ssh-keygen", "openssh-client")],
    backends: &[],
    prepare: make_ssh_keys,
    talk: silent,
    services: &["ssh"],
};

const GIT: Traffic = Traffic {
    needs: &[("git", "git")],
    backends: &[],
    prepare: make_repository,
    talk: git,
    services: &["git", "git"],
};

const RSYNC: Traffic = Traffic {
    needs: &[("rsync", "rsync")],
    backends: &[],
    prepare: nothing,
    talk: rsync,
    services: &["rsync", "rsync"],
};

const WEB: Traffic = Traffic {
    needs: &[("busybox", "busybox"), ("curl", "curl")],
    backends: &[],
    prepare: nothing,
    talk: curl_http,
    services: &["web", "web", "web-a", "web-api"],
};

const H2C: Traffic = Traffic {
    needs: &[("nghttpd", "nghttp2-server"), ("curl", "curl")],
    backends: &[Backend::H2c],
    prepare: nothing,
    talk: curl_h2c,
    services: &["h2c"],
};

const TLS: Traffic = Traffic {
    needs: &[
        ("stunnel4", "stunnel4"),
        ("busybox", "busybox"),
        ("nghttpd", "nghttp2-server"),
        ("openssl", "openssl"),
        ("curl", "curl"),
    ],
    backends: &[Backend::H2],
    prepare: nothing,
    talk: curl_https,
    services: &["h2", "tls-a", "tls-a", "tls-b"],
};

const OPENSSL: Traffic = Traffic {
    talk: openssl,
    services: &["h2", "tls-a", "tls-b"],
    ..TLS
};

const POST_QUANTUM: Traffic = Traffic {
    talk: rustls,
    services: &["h2", "tls-a", "tls-a", "tls-b"],
    ..TLS
};

const POSTGRES: Traffic = Traffic {
    needs: &[("psql", "postgresql-client"), ("openssl", "openssl")],
    backends: &[Backend::Postgres],
    prepare: nothing,
    talk: psql,
    services: &["postgres", "postgres"],
};

const REDIS: Traffic = Traffic {
    needs: &[
        ("redis-server", "redis-server"),
        ("redis-cli", "redis-tools"),
    ],
    backends: &[Backend::Redis],
    prepare: nothing,
    talk: redis,
    services: &["redis", "redis"],
};

const MQTT: Traffic = Traffic {
    needs: &[
        ("mosquitto", "mosquitto"),
        ("mosquitto_pub", "mosquitto-clients"),
    ],
    backends: &[Backend::Mosquitto],
    prepare: nothing,
    talk: mqtt,
    services: &["mosquitto", "mosquitto"],
};

const DNS: Traffic = Traffic {
    needs: &[("dnsmasq", "dnsmasq-base"), ("dig", "bind9-dnsutils")],
    backends: &[Backend::DnsEast, Backend::Dns],
    prepare: nothing,
    talk: dig,
    services: &["dns", "dnseast"],
};

const SOCKS: Traffic = Traffic {
    needs: &[
        ("microsocks", "microsocks"),
        ("busybox", "busybox"),
        ("curl", "curl"),
    ],
    backends: &[Backend::Socks],
    prepare: nothing,
    talk: curl_socks,
    services: &["socks", "web-a"],
};

const ALL: [Traffic; 14] = [
    SSH,
    SILENT,
    GIT,
    RSYNC,
    WEB,
    H2C,
    TLS,
    OPENSSL,
    POST_QUANTUM,
    POSTGRES,
    REDIS,
    MQTT,
    DNS,
    SOCKS,
];

impl Traffic {
    fn run(&self) {
        for (program, package) in self.needs {
            let _ = needs(program, package);
        }
        if !self.has_postgres() {
            skip("needs initdb (package postgresql)");
        }
        let site = Site::new(self.backends);
        (self.prepare)(&site);
        (self.talk)(&site);
        site.expect_served(self.services);
    }

    /// Its servers are in no folder of PATH.
    fn has_postgres(&self) -> bool {
        !self.backends.contains(&Backend::Postgres) || postgres_folder().is_some()
    }

    fn can_run(&self) -> bool {
        let found = |(program, _): &(&str, &str)| find(program).is_some();
        self.needs.iter().all(found) && self.has_postgres()
    }
}

fn ssh_reaches_sshd() {
    SSH.run();
}

fn a_silent_client_hears_the_banner_of_sshd() {
    SILENT.run();
}

fn git_reaches_its_daemon() {
    GIT.run();
}

fn rsync_reaches_its_daemon() {
    RSYNC.run();
}

fn curl_reaches_the_server_of_its_host_and_path() {
    WEB.run();
}

fn curl_with_prior_knowledge_reaches_an_http2_server() {
    H2C.run();
}

fn curl_reaches_the_tls_server_of_its_name() {
    TLS.run();
}

fn openssl_reaches_the_tls_server_of_its_name() {
    OPENSSL.run();
}

fn a_post_quantum_hello_in_many_records_reaches_its_server() {
    POST_QUANTUM.run();
}

fn psql_reaches_postgres_with_and_without_tls() {
    POSTGRES.run();
}

fn redis_cli_reaches_redis() {
    REDIS.run();
}

fn mosquitto_pub_and_sub_reach_the_broker() {
    MQTT.run();
}

fn dig_reaches_the_server_of_its_zone() {
    DNS.run();
}

fn a_socks_client_comes_back_to_the_same_port() {
    SOCKS.run();
}

fn all_clients_at_the_same_time() {
    let there: Vec<&Traffic> = ALL.iter().filter(|traffic| traffic.can_run()).collect();
    if there.len() < 2 {
        skip("needs the packages of the other tests of this file");
    }
    let backends: Vec<Backend> = there
        .iter()
        .flat_map(|traffic| traffic.backends)
        .copied()
        .collect();
    let site = Site::new(&backends);
    let makers = [make_ssh_keys as fn(&Site), make_repository];
    for prepare in makers {
        let used = |traffic: &&Traffic| std::ptr::fn_addr_eq(traffic.prepare, prepare);
        if there.iter().any(used) {
            prepare(&site);
        }
    }
    std::thread::scope(|scope| {
        for traffic in &there {
            scope.spawn(|| (traffic.talk)(&site));
        }
    });
    let services: Vec<&str> = there
        .iter()
        .flat_map(|traffic| traffic.services)
        .copied()
        .collect();
    site.expect_served(&services);
}
