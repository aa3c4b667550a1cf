#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

/// What a module would do.
fn say(talk: &Talk, style: c_int, text: &CStr) -> (c_int, bool) {
    let message = Message {
        style,
        text: text.as_ptr(),
    };
    let messages = [ptr::from_ref(&message)];
    let mut responses = ptr::null_mut();
    let data = ptr::from_ref(talk).cast_mut().cast();
    let code = converse(1, messages.as_ptr(), &raw mut responses, data);
    let answered = !responses.is_null();
    // SAFETY: ours to free, or null.
    unsafe { libc::free(responses.cast()) };
    (code, answered)
}

#[test]
fn what_modules_say_is_kept_and_what_they_ask_is_not_answered() {
    let said = Talk::default();
    assert_eq!(say(&said, ERROR_MSG, c"go\naway \x1b[31m"), (SUCCESS, true));
    assert_eq!(say(&said, TEXT_INFO, c"welcome"), (SUCCESS, true));
    assert_eq!(say(&said, 1, c"Password: "), (CONV_ERR, false));
    assert_eq!(*said.said.borrow(), ["go away  [31m"]);
    let long = CString::new("x".repeat(5000)).unwrap();
    for _ in 0..9 {
        say(&said, ERROR_MSG, &long);
    }
    let said = said.said.borrow();
    let kept = said.iter().map(String::len).sum::<usize>();
    assert_eq!((said.len(), kept), (4, 13 + 3 * LONGEST_SAID));
}

#[test]
fn a_password_is_the_answer_to_what_is_not_echoed_alone() {
    let talk = Talk {
        password: Some(c"secret".to_owned()),
        ..Talk::default()
    };
    assert!(!format!("{talk:?}").contains("secret"));
    let message = |style| Message {
        style,
        text: c"?".as_ptr(),
    };
    let ask = |styles: &[c_int]| {
        let all: Vec<Message> = styles.iter().map(|style| message(*style)).collect();
        let all: Vec<*const Message> = all.iter().map(ptr::from_ref).collect();
        let mut responses = ptr::null_mut::<Response>();
        let data = ptr::from_ref(&talk).cast_mut().cast();
        let count = c_int::try_from(all.len()).unwrap();
        let code = converse(count, all.as_ptr(), &raw mut responses, data);
        let mut answers = Vec::new();
        for at in 0..all.len() * usize::from(code == SUCCESS) {
            // SAFETY: as many responses as there were messages.
            let response = unsafe { responses.add(at) };
            // SAFETY: filled in by `converse`.
            let text = unsafe { (*response).text };
            answers.push(match text.is_null() {
                true => String::new(),
                // SAFETY: a string that ends in NUL.
                false => unsafe { CStr::from_ptr(text) }
                    .to_string_lossy()
                    .into_owned(),
            });
        }
        if code == SUCCESS {
            drop_answers(responses, all.len());
        }
        (code, answers)
    };
    let answers = ask(&[TEXT_INFO, PROMPT_ECHO_OFF]);
    assert_eq!(answers, (SUCCESS, vec![String::new(), "secret".into()]));
    // One that is echoed is for a name or a second factor.
    assert_eq!(ask(&[PROMPT_ECHO_OFF, 2]).0, CONV_ERR);
    assert_eq!(ask(&[]).0, CONV_ERR);
}

#[test]
fn a_library_that_is_there_can_be_used() {
    if let Some(why) = lack() {
        eprintln!("skipped: {why}");
        return;
    }
    let pam = Pam::start(c"usherd-test-of-nothing", c"root", None);
    // Some versions look for the service's file at once.
    if let Ok(mut pam) = pam {
        pam.set(Item::RemoteHost, c"192.0.2.1").unwrap();
        assert!(pam.environment().is_empty());
    }
}
