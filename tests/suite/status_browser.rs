//! The status page as a browser shows it (package chromium).

use serde_json::json;

use crate::common::browser::Browser;
use crate::common::peer::ask;
use crate::common::*;
use crate::tests;

tests![
    the_page_shows_figures_and_follows_what_happens: 120,
    nothing_is_asked_of_another_host_and_nobody_complains: 120,
    a_narrow_screen_needs_no_sideways_scrolling: 120,
    without_a_script_the_tables_are_there: 120,
    what_strangers_say_is_text_and_runs_nothing: 120,
    the_page_goes_on_by_itself_after_a_restart_of_the_front: 120,
];

fn table(page: u16, echo: u16) -> String {
    format!(
        "[service.page]\nlisten = \"tcp:127.0.0.1:{page}\"\nbuiltin = \"status\"\n\
         [service.echo]\nlisten = \"tcp:127.0.0.1:{echo}\"\nbuiltin = \"echo\"\n\
         description = \"Says <b>it</b> again\"\ndeny = [\"127.0.0.9\"]\n"
    )
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

/// A cell in the row of the echo service.
fn cell(class: &str) -> String {
    format!(
        "[...document.querySelectorAll('#services-body tr')]\
         .find(row => row.querySelector('.name').textContent === 'echo')\
         .querySelector('.{class}').textContent"
    )
}

const LIVE: &str = "document.getElementById('link').textContent === 'live'";

fn the_page_shows_figures_and_follows_what_happens() {
    let (dir, page, echo) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &table(page, echo));
    assert_eq!(ask(echo, "x"), "x");
    let mut browser = Browser::start(&dir);
    browser.go(&url(page));
    browser.wait(LIVE);
    assert_eq!(browser.text(&cell("accepted")), "1");
    assert_eq!(browser.text(&cell("badge")), "serving");
    assert_eq!(browser.text(&cell("description")), "Says <b>it</b> again");
    assert_eq!(ask(echo, "x"), "x");
    assert_eq!(Peer::tcp_from([127, 0, 0, 9], echo).read_all(), b"");
    browser.wait(&format!("{} === '3'", cell("accepted")));
    browser.wait(&format!("{} === '1'", cell("refused")));
    let reasons = "document.getElementById('reasons-body').textContent";
    browser.wait(&format!("{reasons}.includes('address_denied')"));
    let events = "document.getElementById('events-body').textContent";
    browser.wait(&format!(
        "{events}.includes('refused') && {events}.includes('127.0.0.9')"
    ));
    let line = "document.querySelector('#card-requests .line').getAttribute('d')";
    browser.wait(&format!("({line} || '').split('L').length >= 3"));
}

fn nothing_is_asked_of_another_host_and_nobody_complains() {
    let (dir, page, echo) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &table(page, echo));
    let mut browser = Browser::start(&dir);
    browser.go(&url(page));
    browser.wait("Number(document.documentElement.dataset.snapshots) >= 2");
    let requests = browser.requests();
    assert!(requests.len() >= 2, "{requests:?}");
    assert!(
        requests.iter().all(|to| to.starts_with(&url(page))),
        "{requests:?}"
    );
    assert_eq!(browser.complaints(), [""; 0]);
    // The policy holds: what the page may not load is what is complained about.
    browser.ask(
        "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2/x' })) || 1",
    );
    until("a complaint", SOON, || {
        browser.ask("1");
        browser
            .complaints()
            .iter()
            .any(|c| c.contains("Content Security Policy"))
            .then_some(())
    });
}

fn a_narrow_screen_needs_no_sideways_scrolling() {
    let (dir, page, echo) = (Dir::new(), free_port(), free_port());
    let long = format!(
        "{}[service.{}]\nlisten = \"unix:@{}\"\nbuiltin = \"echo\"\ndescription = \"{}\"\n",
        table(page, echo),
        "n".repeat(64),
        "a".repeat(100),
        "d".repeat(300),
    );
    let _daemon = Daemon::start(&dir, &long);
    let mut browser = Browser::start(&dir);
    for width in [360, 320, 600, 1000, 1280] {
        browser.resize(width, 800);
        browser.go(&url(page));
        browser.wait(LIVE);
        let sizes = browser.text(
            "document.documentElement.scrollWidth + ' ' + document.documentElement.clientWidth",
        );
        let (inner, outer) = sizes.split_once(' ').expect("two");
        assert_eq!(inner, outer, "at {width}");
        // Still a table for those who do not see it.
        let roles =
            browser.ask("document.querySelectorAll('#services-body [role=rowheader]').length");
        assert_eq!(roles, 3);
    }
}

fn without_a_script_the_tables_are_there() {
    let (dir, page, echo) = (Dir::new(), free_port(), free_port());
    let _daemon = Daemon::start(&dir, &table(page, echo));
    assert_eq!(ask(echo, "x"), "x");
    let mut browser = Browser::start(&dir);
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({ "value": true }),
    );
    browser.go(&url(page));
    assert_eq!(browser.text(&cell("accepted")), "1");
    assert_eq!(browser.ask("document.documentElement.className"), "");
    let link = "getComputedStyle(document.getElementById('link')).visibility";
    assert_eq!(browser.text(link), "hidden", "no word about a stream");
    // The page comes anew by itself.
    assert_eq!(ask(echo, "x"), "x");
    browser.wait(&format!(
        "document.readyState === 'complete' && {} === '2'",
        cell("accepted")
    ));
    let requests = browser.requests();
    assert!(requests.iter().all(|to| *to == url(page)), "{requests:?}");
}

fn what_strangers_say_is_text_and_runs_nothing() {
    let (dir, page, port) = (Dir::new(), free_port(), free_port());
    let nasty = "</script><img src=x onerror=document.title=1><b>bold</b>";
    let program = dir.script("nasty", &format!("#!/bin/sh\necho '{nasty}' >&2\n"));
    let table = format!(
        "[service.page]\nlisten = \"tcp:127.0.0.1:{page}\"\nbuiltin = \"status\"\n\
         [service.nasty]\nlisten = \"tcp:127.0.0.1:{port}\"\nexec = [\"{program}\"]\n\
         description = \"{nasty}\"\n"
    );
    let daemon = Daemon::start(&dir, &table);
    assert_eq!(ask(port, ""), "");
    daemon.log.wait_after(0, &["exited", "nasty"]);
    let mut browser = Browser::start(&dir);
    let shown = "document.getElementById('events-body').textContent";
    let harmless = "document.querySelectorAll('img, b').length === 0 && document.title !== '1'";
    browser.go(&url(page));
    browser.wait(LIVE);
    browser.wait(&format!("{shown}.includes('<b>bold</b>')"));
    assert_eq!(browser.ask(harmless), true);
    assert_eq!(ask(port, ""), "");
    browser.wait(&format!("{shown}.split('<b>bold</b>').length === 3"));
    assert_eq!(browser.ask(harmless), true);
    assert_eq!(browser.complaints(), [""; 0]);
}

fn the_page_goes_on_by_itself_after_a_restart_of_the_front() {
    let (dir, page, echo) = (Dir::new(), free_port(), free_port());
    let daemon = Daemon::start(&dir, &table(page, echo));
    assert_eq!(ask(echo, "x"), "x");
    let mut browser = Browser::start(&dir);
    browser.go(&url(page));
    browser.wait(&format!("{LIVE} && {} === '1'", cell("accepted")));
    process::kill(daemon.front(), nix::sys::signal::Signal::SIGKILL);
    let fronts = "document.getElementById('fronts').textContent";
    browser.wait(&format!(
        "{LIVE} && {fronts} === '2' && {} === '0'",
        cell("accepted")
    ));
}
