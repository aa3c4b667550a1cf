//! Linux-PAM, loaded when a service wants it: usherd neither needs it to be
//! built nor to run services that have no use for it. See pam(3).
//!
//! Sessions answer no question of a module; who checks a password answers one
//! that is not echoed, with that.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr;

const LIBRARY: &CStr = c"libpam.so.0";

const SUCCESS: c_int = 0;
const SYSTEM_ERR: c_int = 4;
const BUF_ERR: c_int = 5;
const CONV_ERR: c_int = 19;
/// An empty password is none.
const DISALLOW_NULL_AUTHTOK: c_int = 0x1;
const ESTABLISH_CRED: c_int = 0x2;
const DELETE_CRED: c_int = 0x4;
/// A question whose answer is not to be seen: for a password.
const PROMPT_ECHO_OFF: c_int = 1;
/// Styles of messages that want no answer.
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;

/// Messages of modules that are kept, and octets of each.
const MOST_SAID: usize = 4;
const LONGEST_SAID: usize = 200;

/// What a module may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Item {
    Tty = 3,
    RemoteHost = 4,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Password or user, or both: modules are not to say which.
    Credentials,
    /// The account is over, or its password is.
    Expired,
    /// Not before the user has chosen a new password.
    NewPassword,
    /// Not now, or not from there.
    Forbidden,
    /// It could not be found out.
    Unable(String),
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    converse: extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

type Handle = *mut c_void;
type OfFlags = unsafe extern "C" fn(Handle, c_int) -> c_int;

/// The functions that are called.
#[derive(Debug)]
struct Library {
    start: unsafe extern "C" fn(
        *const c_char,
        *const c_char,
        *const Conversation,
        *mut Handle,
    ) -> c_int,
    end: OfFlags,
    set_item: unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int,
    authenticate: OfFlags,
    account: OfFlags,
    credentials: OfFlags,
    open: OfFlags,
    close: OfFlags,
    environment: unsafe extern "C" fn(Handle) -> *mut *mut c_char,
    text_of: unsafe extern "C" fn(Handle, c_int) -> *const c_char,
}

impl Library {
    /// Stays loaded: modules call it until the process ends.
    fn load() -> Result<Self, String> {
        let library = open()?;
        macro_rules! find {
            ($name:literal) => {
                // SAFETY: the field that it goes to has the type of the function's
                // declaration in security/pam_appl.h or _pam_types.h.
                unsafe { function(library, $name) }?
            };
        }
        Ok(Self {
            start: find!(c"pam_start"),
            end: find!(c"pam_end"),
            set_item: find!(c"pam_set_item"),
            authenticate: find!(c"pam_authenticate"),
            account: find!(c"pam_acct_mgmt"),
            credentials: find!(c"pam_setcred"),
            open: find!(c"pam_open_session"),
            close: find!(c"pam_close_session"),
            environment: find!(c"pam_getenvlist"),
            text_of: find!(c"pam_strerror"),
        })
    }
}

fn open() -> Result<*mut c_void, String> {
    // SAFETY: the name ends in NUL; what the library does as it is loaded is
    // what it does in every program that logs users in.
    let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW) };
    match library.is_null() {
        true => Err(loader_error()),
        false => Ok(library),
    }
}

fn loader_error() -> String {
    // SAFETY: takes nothing.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return format!("unable to load {}", LIBRARY.to_string_lossy());
    }
    // SAFETY: a text that ends in NUL, and that stays until the next call of the loader.
    let text = unsafe { CStr::from_ptr(text) };
    format!("unable to load the PAM library: {}", text.to_string_lossy())
}

/// # Safety
///
/// `F` must be a function pointer of the type that `name` has in the library.
unsafe fn function<F: Copy>(library: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: `library` is open, and the name ends in NUL.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    if found.is_null() {
        return Err(loader_error());
    }
    // SAFETY: of the same size, and a function of that type by the caller's promise.
    Ok(unsafe { mem::transmute_copy(&found) })
}

/// Why there can be no PAM sessions on this host.
#[must_use]
pub fn lack() -> Option<String> {
    match open() {
        Ok(library) => {
            // SAFETY: opened just now, and nothing of it is kept.
            unsafe { libc::dlclose(library) };
            None
        }
        Err(why) => Some(why),
    }
}

/// A transaction with PAM; see pam_start(3). Dropping it ends it.
#[derive(Debug)]
pub struct Pam {
    library: Library,
    handle: Handle,
    last: c_int,
    /// What is said to modules and by them; they know it by its address.
    talk: Box<Talk>,
}

/// The two sides of a conversation.
#[derive(Default)]
struct Talk {
    said: RefCell<Vec<String>>,
    password: Option<CString>,
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the password.
        f.debug_tuple("Talk").field(&self.said).finish()
    }
}

impl Pam {
    /// Fails with a reason, as all of these do. `password` is for [`Pam::authenticate`].
    pub fn start(service: &CStr, user: &CStr, password: Option<CString>) -> Result<Self, String> {
        let library = Library::load()?;
        let talk = Box::new(Talk {
            password,
            ..Talk::default()
        });
        let conversation = Conversation {
            converse,
            data: ptr::from_ref(&*talk).cast_mut().cast(),
        };
        let mut handle = ptr::null_mut();
        // SAFETY: the names end in NUL; PAM copies the conversation, whose data
        // lives as long as the handle is used.
        let code = unsafe {
            (library.start)(
                service.as_ptr(),
                user.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            )
        };
        let pam = Self {
            library,
            handle,
            last: code,
            talk,
        };
        match code {
            SUCCESS => Ok(pam),
            _ => Err(pam.reason(code)),
        }
    }

    pub fn set(&mut self, item: Item, value: &CStr) -> Result<(), String> {
        // SAFETY: these items are texts that end in NUL, which PAM copies.
        let code =
            unsafe { (self.library.set_item)(self.handle, item as c_int, value.as_ptr().cast()) };
        self.check(code)
    }

    /// pam_authenticate(3): whether the password is the user's. Takes its time if it is not.
    pub fn authenticate(&mut self) -> Result<(), Denied> {
        let checked = self.call(self.library.authenticate, DISALLOW_NULL_AUTHTOK);
        checked.map_err(|reason| match denied(self.last, reason) {
            // Of an account that is over nothing is said to who has not its password.
            Denied::Unable(reason) => Denied::Unable(reason),
            _ => Denied::Credentials,
        })
    }

    /// As [`Pam::account`], after [`Pam::authenticate`].
    pub fn permits(&mut self) -> Result<(), Denied> {
        self.account()
            .map_err(|reason| match denied(self.last, reason) {
                // The password was right. So says pam_deny(8), which many stacks end with.
                Denied::Credentials => Denied::Forbidden,
                other => other,
            })
    }

    /// pam_acct_mgmt(3): whether the user may be let in at all.
    pub fn account(&mut self) -> Result<(), String> {
        self.call(self.library.account, 0)
    }

    /// pam_setcred(3).
    pub fn establish_credentials(&mut self) -> Result<(), String> {
        self.call(self.library.credentials, ESTABLISH_CRED)
    }

    pub fn delete_credentials(&mut self) -> Result<(), String> {
        self.call(self.library.credentials, DELETE_CRED)
    }

    pub fn open_session(&mut self) -> Result<(), String> {
        self.call(self.library.open, 0)
    }

    pub fn close_session(&mut self) -> Result<(), String> {
        self.call(self.library.close, 0)
    }

    /// pam_getenvlist(3): names and values. What is no UTF-8 text is left out.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        // SAFETY: the handle is open.
        let list = unsafe { (self.library.environment)(self.handle) };
        let mut found = Vec::new();
        let mut at = list;
        while !at.is_null() {
            // SAFETY: the list ends in a null pointer, which has not been met yet.
            let string = unsafe { *at };
            if string.is_null() {
                break;
            }
            // SAFETY: as PAM gave it, a string that ends in NUL.
            let text = unsafe { CStr::from_ptr(string) };
            if let Some((name, value)) = text.to_str().ok().and_then(|text| text.split_once('=')) {
                found.push((name.to_owned(), value.to_owned()));
            }
            // SAFETY: each string is the caller's to free, and is not used any more.
            unsafe { libc::free(string.cast()) };
            // SAFETY: the string was not the null pointer at the end.
            at = unsafe { at.add(1) };
        }
        // SAFETY: so is the list; a null pointer is allowed.
        unsafe { libc::free(list.cast()) };
        found
    }

    /// Leaves the session to another process that has a copy of this.
    pub fn forget(mut self) {
        self.handle = ptr::null_mut();
        // Modules may still refer to it.
        Box::leak(mem::take(&mut self.talk));
    }

    fn call(&mut self, function: OfFlags, flags: c_int) -> Result<(), String> {
        // SAFETY: the handle is open.
        let code = unsafe { function(self.handle, flags) };
        self.check(code)
    }

    fn check(&mut self, code: c_int) -> Result<(), String> {
        self.last = code;
        match code {
            SUCCESS => Ok(()),
            _ => Err(self.reason(code)),
        }
    }

    /// What PAM calls this failure, and what modules said about it.
    fn reason(&self, code: c_int) -> String {
        // SAFETY: takes a handle or none, and gives a text that ends in NUL.
        let text = unsafe { (self.library.text_of)(self.handle, code) };
        let mut reason = match text.is_null() {
            true => format!("PAM error {code}"),
            // SAFETY: as said; nothing changes it before it is copied.
            false => unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned(),
        };
        for said in self.talk.said.borrow_mut().drain(..) {
            reason.push_str(": ");
            reason.push_str(&said);
        }
        reason
    }
}

impl Drop for Pam {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is open, and not used after this.
            unsafe { (self.library.end)(self.handle, self.last) };
        }
    }
}

/// What a failure of pam_authenticate(3) or pam_acct_mgmt(3) means.
fn denied(code: c_int, reason: String) -> Denied {
    match code {
        // PAM_AUTH_ERR, PAM_USER_UNKNOWN, PAM_MAXTRIES
        7 | 10 | 11 => Denied::Credentials,
        // PAM_PERM_DENIED
        6 => Denied::Forbidden,
        // PAM_NEW_AUTHTOK_REQD
        12 => Denied::NewPassword,
        // PAM_ACCT_EXPIRED, PAM_CRED_EXPIRED, PAM_AUTHTOK_EXPIRED
        13 | 16 | 27 => Denied::Expired,
        _ => Denied::Unable(reason),
    }
}

/// What modules have to say is kept for whoever asks why; of their questions only that
/// for a password is answered, if there is one.
extern "C" fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count @ 1..=32) = usize::try_from(count) else {
        return CONV_ERR;
    };
    // SAFETY: `data` is what `start` gave, which lives as long as the handle.
    let Some(talk) = (unsafe { data.cast::<Talk>().as_ref() }) else {
        return SYSTEM_ERR;
    };
    // SAFETY: zeroed memory is a valid array of empty responses.
    let answers = unsafe { libc::calloc(count, size_of::<Response>()) };
    if answers.is_null() {
        return BUF_ERR;
    }
    let answers = answers.cast::<Response>();
    for at in 0..count {
        // SAFETY: PAM gives an array of `count` pointers.
        let message = unsafe { messages.add(at) };
        // SAFETY: within that array.
        let message = unsafe { *message };
        // SAFETY: each to a message that stays for the time of this call.
        let message = unsafe { message.as_ref() };
        // SAFETY: within the array of `count` responses.
        let answer = unsafe { answers.add(at) };
        let code = match message {
            // SAFETY: nobody else knows of the array yet.
            Some(message) => converse_once(talk, message, unsafe { &mut *answer }),
            None => SYSTEM_ERR,
        };
        if code != SUCCESS {
            drop_answers(answers, at);
            return code;
        }
    }
    // SAFETY: PAM wants the array there, and frees it and what is in it.
    unsafe { *responses = answers };
    SUCCESS
}

fn converse_once(talk: &Talk, message: &Message, answer: &mut Response) -> c_int {
    match (message.style, &talk.password) {
        (ERROR_MSG, _) if !message.text.is_null() => {
            // SAFETY: the text of a message ends in NUL.
            let text = unsafe { CStr::from_ptr(message.text) };
            keep(&talk.said, &text.to_string_lossy());
            SUCCESS
        }
        (ERROR_MSG | TEXT_INFO, _) => SUCCESS,
        (PROMPT_ECHO_OFF, Some(password)) => {
            // SAFETY: the password ends in NUL.
            answer.text = unsafe { libc::strdup(password.as_ptr()) };
            match answer.text.is_null() {
                true => BUF_ERR,
                false => SUCCESS,
            }
        }
        _ => CONV_ERR,
    }
}

/// Gives up an array of which the first `count` have been filled in.
fn drop_answers(answers: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: within the array.
        let answer = unsafe { answers.add(at) };
        // SAFETY: filled in, or zeroed, and nobody else's.
        let text = unsafe { (*answer).text };
        // SAFETY: of strdup(3), or null.
        unsafe { libc::free(text.cast()) };
    }
    // SAFETY: of calloc(3), and not used any more.
    unsafe { libc::free(answers.cast()) };
}

fn keep(said: &RefCell<Vec<String>>, text: &str) {
    let Ok(mut said) = said.try_borrow_mut() else {
        return;
    };
    if said.len() < MOST_SAID {
        let blank = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().map(blank).take(LONGEST_SAID).collect();
        said.push(text.trim().to_owned());
    }
}

/// A text for PAM: what has a NUL in it is cut there.
#[must_use]
pub fn text(from: &str) -> CString {
    let end = from.find('\0').unwrap_or(from.len());
    CString::new(&from[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
