//! usherd.toml(5) and usherd-operations(5) from the references in config, so that there
//! is one of each. Knows the Markdown that is used there and no more: headings, paragraphs, lists,
//! tables, code, and `code` and **bold** words within lines.
#![forbid(unsafe_code)]

/// For tbl(1), and an apostrophe that stays one.
const HEAD: &str = "'\\\" t\n.ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// What a page has around its reference.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// In small letters; section 5.
    pub name: &'static str,
    pub about: &'static str,
    pub file: &'static str,
    pub file_is: &'static str,
    pub see_also: &'static str,
}

impl Page {
    fn head(&self) -> String {
        format!(
            "{HEAD}.TH {} 5 \"\" \"usherd\" \"File formats\"\n.SH NAME\n{} \\- {}\n\
             .SH DESCRIPTION\n",
            self.name.to_uppercase(),
            plain(self.name),
            plain(self.about)
        )
    }

    fn tail(&self) -> String {
        format!(
            ".SH FILES\n.TP\n\\fB{}\\fR\n{}\n.SH \"SEE ALSO\"\n{}\n",
            self.file, self.file_is, self.see_also
        )
    }
}

/// The page, as man(7) has it.
#[must_use]
pub fn table_manual(about: &Page, markdown: &str) -> String {
    let mut page = about.head();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# ") || line.is_empty() {
            // The title is that of the page.
        } else if let Some(heading) = line.strip_prefix("## ") {
            page += &format!(".SH \"{}\"\n", quoted(heading));
        } else if line.starts_with("###") {
            page += &format!(".SS \"{}\"\n", quoted(line.trim_start_matches(['#', ' '])));
        } else if line.starts_with("```") {
            let code = lines.by_ref().take_while(|line| *line != "```");
            put_code(&mut page, code);
        } else if let Some(first) = line.strip_prefix("    ") {
            let mut code = vec![first];
            while let Some(next) = lines.next_if(|line| line.starts_with("    ")) {
                code.push(&next[4..]);
            }
            put_code(&mut page, code.into_iter());
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(next) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(next));
            }
            put_table(&mut page, &rows);
        } else {
            let (order, first) = match line.strip_prefix("- ") {
                Some(item) => (".IP \\(bu 2\n", item),
                None => (".PP\n", line),
            };
            let mut text = first.to_owned();
            while let Some(next) = lines.next_if(|line| goes_on(line)) {
                text.push(' ');
                text.push_str(next.trim_start());
            }
            page += order;
            page += &words(&text);
            page.push('\n');
        }
    }
    page + &about.tail()
}

/// Whether a line belongs to the paragraph or item above it.
fn goes_on(line: &str) -> bool {
    let begins = ["#", "- ", "|", "```"];
    !line.is_empty() && !begins.iter().any(|begin| line.starts_with(begin))
}

fn put_code<'a>(page: &mut String, lines: impl Iterator<Item = &'a str>) {
    *page += ".PP\n.RS 4\n.nf\n";
    for line in lines {
        *page += &no_order(plain(line));
        page.push('\n');
    }
    *page += ".fi\n.RE\n";
}

/// The cells of a row; no cell has a bar in it.
fn cells(row: &str) -> Vec<&str> {
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// Two columns are terms and what they mean; more of them are a table.
fn put_table(page: &mut String, rows: &[Vec<&str>]) {
    let [head, _rule, body @ ..] = rows else {
        return;
    };
    if head.len() == 2 {
        for row in body {
            let [term, text] = row.as_slice() else {
                continue;
            };
            *page += &format!(".TP\n{}\n{}\n", words(term), words(text));
        }
        return;
    }
    // The last column has the sentences, and what is left of the line.
    let others = head.len() - 1;
    *page += &format!(
        ".na\n.TS\n{}lb\n{}lx.\n",
        "lb ".repeat(others),
        "l ".repeat(others)
    );
    for row in std::iter::once(head).chain(body) {
        let row: Vec<_> = row
            .iter()
            .map(|cell| format!("T{{\n{}\nT}}", words(cell)))
            .collect();
        *page += &row.join("\t");
        page.push('\n');
    }
    *page += ".TE\n.ad\n";
}

/// `code` and **bold** in bold. A word of code is not taken apart.
fn words(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 1 {
            out += &format!("\\fB{}\\fR", plain(part));
            continue;
        }
        for (at, part) in part.split("**").enumerate() {
            match at % 2 {
                1 => out += &format!("\\fB{}\\fR", plain(part)),
                _ => out += &plain(&without_links(part)),
            }
        }
    }
    no_order(out)
}

/// roff takes a point or an apostrophe at the beginning of a line for an order.
fn no_order(line: String) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line,
    }
}

/// `[text](place)` is the text.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let Some((start, (_, end))) = before.rfind('[').zip(after.split_once(')')) else {
            break;
        };
        out += &before[..start];
        out += &before[start + 1..];
        rest = end;
    }
    out + rest
}

fn quoted(heading: &str) -> String {
    words(heading).replace('"', "\\(dq")
}

/// roff's own characters; an apostrophe that would become a curly one.
fn plain(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(markdown: &str) -> String {
        let about = Page {
            name: "x",
            about: "an x",
            file: "/x",
            file_is: "it",
            see_also: "y(1)",
        };
        let page = table_manual(&about, markdown);
        page[about.head().len()..page.len() - about.tail().len()].to_owned()
    }

    #[test]
    fn each_kind_of_block_has_its_orders() {
        let cases = [
            ("# The table\n", ""),
            ("## Files\n", ".SH \"Files\"\n"),
            ("### `a`, `b`\n", ".SS \"\\fBa\\fR, \\fBb\\fR\"\n"),
            ("one\ntwo\n\nthree\n", ".PP\none two\n.PP\nthree\n"),
            (
                "- one\n  more\n- two\n",
                ".IP \\(bu 2\none more\n.IP \\(bu 2\ntwo\n",
            ),
            (
                "```toml\n.a = \"-\"\n```\n",
                ".PP\n.RS 4\n.nf\n\\&.a = \"\\-\"\n.fi\n.RE\n",
            ),
            (
                "    TOP\n      x\n",
                ".PP\n.RS 4\n.nf\nTOP\n  x\n.fi\n.RE\n",
            ),
            (
                "| K | M |\n| --- | --- |\n| `k` | m |\n",
                ".TP\n\\fBk\\fR\nm\n",
            ),
            (
                "| A | B | C |\n| --- | --- | --- |\n| a | b | c |\n",
                ".na\n.TS\nlb lb lb\nl l lx.\nT{\nA\nT}\tT{\nB\nT}\tT{\nC\nT}\nT{\na\nT}\tT{\nb\nT}\tT{\nc\nT}\n.TE\n.ad\n",
            ),
        ];
        for (markdown, page) in cases {
            assert_eq!(body(markdown), page, "{markdown}");
        }
    }

    #[test]
    fn marks_within_a_line_are_for_whole_words() {
        assert_eq!(words("a `**b` c"), "a \\fB**b\\fR c");
        assert_eq!(words("**What** goes"), "\\fBWhat\\fR goes");
        assert_eq!(words("see [here](there.md), or [x]"), "see here, or [x]");
        assert_eq!(words("`.x`"), "\\fB.x\\fR");
        assert_eq!(words("'x' -y"), "\\(aqx\\(aq \\-y");
    }
}
