//! From a record to the bytes of one line; pure, the time is an argument.

use std::fmt::{self, Write};
use std::time::SystemTime;

use log::kv::{Error as KvError, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

/// The longest line: as much as a pipe takes in one piece (pipe(7), `PIPE_BUF`).
pub const MAX_LINE: usize = 4096;
/// The longest text of one field or event, escapes counted: one peer's long
/// name must not push the other fields out.
const MAX_VALUE: usize = 1024;
/// Kept free for what says that fields were left out, and the line's end.
const RESERVE: usize = 32;

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Style {
    /// Time, level, event, fields.
    Text,
    /// The journal adds the time and reads the priority: sd-daemon(3).
    Journal,
    /// RFC 3164 without the time, which syslogd knows better.
    Syslog,
    Json,
    JsonJournal,
    JsonSyslog,
}

impl From<Style> for u8 {
    fn from(style: Style) -> u8 {
        style as u8
    }
}

impl From<u8> for Style {
    fn from(code: u8) -> Self {
        use Style::{Journal, Json, JsonJournal, JsonSyslog, Syslog, Text};
        [Text, Journal, Syslog, Json, JsonJournal, JsonSyslog]
            .into_iter()
            .find(|style| *style as u8 == code)
            .unwrap_or(Text)
    }
}

impl Style {
    fn is_json(self) -> bool {
        matches!(self, Style::Json | Style::JsonJournal | Style::JsonSyslog)
    }
}

/// Bytes of a peer as a field: `name:% = Bytes(raw)`. What is not UTF-8
/// becomes `\xNN`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Replaces `out` with the line for `record`, at most [`MAX_LINE`] bytes.
pub fn write(out: &mut Vec<u8>, style: Style, now: SystemTime, record: &Record<'_>) {
    out.clear();
    put_prefix(out, style, record.level());
    if style.is_json() {
        put_json(out, now, record);
    } else {
        put_text(out, style, now, record);
    }
    if !matches!(style, Style::Syslog | Style::JsonSyslog) {
        out.push(b'\n');
    }
}

fn put_prefix(out: &mut Vec<u8>, style: Style, level: Level) {
    const DAEMON: u8 = 3 << 3;
    match style {
        Style::Text | Style::Json => {}
        Style::Journal | Style::JsonJournal => put(out, format_args!("<{}>", severity(level))),
        Style::Syslog | Style::JsonSyslog => {
            let (priority, pid) = (DAEMON | severity(level), std::process::id());
            put(out, format_args!("<{priority}>usherd[{pid}]: "));
        }
    }
}

/// syslog(3).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn put_text(out: &mut Vec<u8>, style: Style, now: SystemTime, record: &Record<'_>) {
    if style == Style::Text {
        let time = humantime::format_rfc3339_millis(now);
        put(out, format_args!("{time} {} ", name(record.level())));
    }
    let mut event = Escaped::new(out, Quoting::Never);
    let _ = event.write_fmt(*record.args());
    let mut fields = Fields {
        out,
        json: false,
        cut: false,
    };
    let _ = record.key_values().visit(&mut fields);
    if fields.cut {
        out.extend_from_slice(b" cut=true");
    }
}

fn put_json(out: &mut Vec<u8>, now: SystemTime, record: &Record<'_>) {
    let time = humantime::format_rfc3339_millis(now);
    let level = name(record.level());
    put(
        out,
        format_args!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":"),
    );
    put_json_string(out, *record.args());
    let mut fields = Fields {
        out,
        json: true,
        cut: false,
    };
    let _ = record.key_values().visit(&mut fields);
    if fields.cut {
        out.extend_from_slice(b",\"cut\":true");
    }
    out.push(b'}');
}

fn put_json_string(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.push(b'"');
    let _ = Escaped::new(out, Quoting::Json).write_fmt(text);
    out.push(b'"');
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing to a Vec does not fail.
    let _ = io_write(out, text);
}

fn io_write(out: &mut Vec<u8>, text: fmt::Arguments<'_>) -> std::io::Result<()> {
    std::io::Write::write_fmt(out, text)
}

/// Appends ` key=value` or `,"key":value` for each field that still fits.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    json: bool,
    cut: bool,
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), KvError> {
        if is_absent(&value) {
            return Ok(());
        }
        let start = self.out.len();
        if self.json {
            self.out.push(b',');
            put_json_string(self.out, format_args!("{key}"));
            self.out.push(b':');
            let _ = value.visit(JsonValue(self.out));
        } else {
            put(self.out, format_args!(" {key}="));
            put_text_value(self.out, &value);
        }
        // Whole fields or none: half a field may say something else, or break the JSON.
        if self.out.len() > MAX_LINE - RESERVE {
            self.out.truncate(start);
            self.cut = true;
        }
        Ok(())
    }
}

/// Whether a field was given as `None`: it is left out then.
fn is_absent(value: &Value<'_>) -> bool {
    struct Absent(bool);
    impl<'v> VisitValue<'v> for Absent {
        fn visit_any(&mut self, _: Value<'_>) -> Result<(), KvError> {
            Ok(())
        }

        fn visit_null(&mut self) -> Result<(), KvError> {
            self.0 = true;
            Ok(())
        }
    }
    let mut absent = Absent(false);
    let _ = value.visit(&mut absent);
    absent.0
}

fn put_text_value(out: &mut Vec<u8>, value: &Value<'_>) {
    let start = out.len();
    let mut escaped = Escaped::new(out, Quoting::IfNeeded);
    let _ = write!(escaped, "{value}");
    let quote = escaped.needs_quotes || escaped.written == 0;
    if quote {
        out.insert(start, b'"');
        out.push(b'"');
    }
}

/// Numbers and truth values as themselves, all else as a string.
struct JsonValue<'a>(&'a mut Vec<u8>);

impl JsonValue<'_> {
    fn bare(&mut self, text: fmt::Arguments<'_>) -> Result<(), KvError> {
        put(self.0, text);
        Ok(())
    }
}

impl<'v> VisitValue<'v> for JsonValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), KvError> {
        put_json_string(self.0, format_args!("{value}"));
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), KvError> {
        self.bare(format_args!("{value}"))
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), KvError> {
        self.bare(format_args!("{value}"))
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), KvError> {
        self.bare(format_args!("{value}"))
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), KvError> {
        if value.is_finite() {
            self.bare(format_args!("{value}"))
        } else {
            self.visit_any(Value::from_display(&value))
        }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), KvError> {
        self.bare(format_args!("{value}"))
    }

    fn visit_str(&mut self, value: &str) -> Result<(), KvError> {
        put_json_string(self.0, format_args!("{value}"));
        Ok(())
    }
}

/// What else than control characters is escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// The event of a text line.
    Never,
    /// A field of a text line.
    IfNeeded,
    Json,
}

/// Appends text with every character escaped that could end, split, forge or
/// colour a line; stops at [`MAX_VALUE`].
struct Escaped<'a> {
    out: &'a mut Vec<u8>,
    quoting: Quoting,
    written: usize,
    needs_quotes: bool,
}

impl<'a> Escaped<'a> {
    fn new(out: &'a mut Vec<u8>, quoting: Quoting) -> Self {
        Self {
            out,
            quoting,
            written: 0,
            needs_quotes: false,
        }
    }

    fn put_char(&mut self, c: char) {
        match c {
            '"' | '\\' if self.quoting != Quoting::Never => {
                self.needs_quotes = true;
                self.out.extend_from_slice(&[b'\\', c as u8]);
            }
            '\n' => self.put_escape(format_args!("\\n")),
            '\r' => self.put_escape(format_args!("\\r")),
            '\t' => self.put_escape(format_args!("\\t")),
            c if is_unsafe(c) => self.put_code(c),
            c => {
                self.needs_quotes |= c == '=' || c.is_whitespace();
                self.out
                    .extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }

    fn put_code(&mut self, c: char) {
        let code = u32::from(c);
        match self.quoting {
            // Every such character lies in the basic plane, so one unit is enough.
            Quoting::Json => self.put_escape(format_args!("\\u{code:04x}")),
            _ if code < 0x80 => self.put_escape(format_args!("\\x{code:02x}")),
            _ => self.put_escape(format_args!("\\u{{{code:x}}}")),
        }
    }

    fn put_escape(&mut self, escape: fmt::Arguments<'_>) {
        self.needs_quotes = true;
        put(self.out, escape);
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const LONGEST_ESCAPE: usize = 10;
        for c in text.chars() {
            if self.written > MAX_VALUE - LONGEST_ESCAPE - 3 {
                self.out.extend_from_slice(b"...");
                return Err(fmt::Error);
            }
            let before = self.out.len();
            self.put_char(c);
            self.written += self.out.len() - before;
        }
        Ok(())
    }
}

/// Controls (C0, DEL, C1), and what a terminal uses to break or turn round a line.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
