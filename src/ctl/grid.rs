//! Aligned columns. Where the terminal is too narrow, the columns that matter
//! least go first, then the one with the longest text is cut.
#![forbid(unsafe_code)]

use super::text::{cut, escape};

/// Between two columns.
const GAP: usize = 2;
/// An elastic column is not cut below this.
const LEAST: usize = 8;

/// What a cell says by its colour, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
    Faint,
    Heading,
}

impl Paint {
    /// `text` in this colour, if colours are wanted.
    #[must_use]
    pub fn on(self, text: &str, colours: bool) -> String {
        let code = match self {
            Paint::Plain => "",
            Paint::Good => "32",
            Paint::Doubtful => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
            Paint::Heading => "1",
        };
        if !colours || code.is_empty() || text.trim().is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub paint: Paint,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::painted(text, Paint::Plain)
    }
}

impl Cell {
    /// Whatever the text is, no control character of it is kept.
    #[must_use]
    pub fn painted(text: impl AsRef<str>, paint: Paint) -> Self {
        Self {
            text: escape(text.as_ref()).into_owned(),
            paint,
        }
    }

    /// A number; none is faint, so that what is there is seen.
    #[must_use]
    pub fn number(number: u64) -> Self {
        let paint = if number == 0 {
            Paint::Faint
        } else {
            Paint::Plain
        };
        Self::painted(number.to_string(), paint)
    }

    /// The same for what should not happen.
    #[must_use]
    pub fn trouble(number: u64) -> Self {
        let paint = if number == 0 {
            Paint::Faint
        } else {
            Paint::Doubtful
        };
        Self::painted(number.to_string(), paint)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
    /// 0 stays; of the others the highest goes first.
    pub rank: u8,
    /// May be cut.
    pub elastic: bool,
}

/// Text at the left.
#[must_use]
pub const fn left(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        right: false,
        rank,
        elastic: false,
    }
}

/// Numbers at the right.
#[must_use]
pub const fn right(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        right: true,
        rank,
        elastic: false,
    }
}

/// Text of any length.
#[must_use]
pub const fn elastic(title: &'static str, rank: u8) -> Column {
    Column {
        title,
        right: false,
        rank,
        elastic: true,
    }
}

#[derive(Clone, Debug)]
pub struct Grid {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// A row with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let mut cells: Vec<Cell> = cells.into_iter().collect();
        cells.resize_with(self.columns.len(), || Cell::from(""));
        self.rows.push(cells);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The heading and the rows, each line no wider than `width`.
    #[must_use]
    pub fn lines(&self, width: Option<usize>, colours: bool) -> Vec<String> {
        let shown = self.fit(width);
        let heading: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::painted(column.title, Paint::Heading))
            .collect();
        std::iter::once(&heading)
            .chain(&self.rows)
            .map(|cells| self.line(cells, &shown, colours, width))
            .collect()
    }

    /// [`Grid::lines`] as one text.
    #[must_use]
    pub fn render(&self, width: Option<usize>, colours: bool) -> String {
        let mut out = String::new();
        for line in self.lines(width, colours) {
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// The columns that are shown, and how wide each is.
    fn fit(&self, width: Option<usize>) -> Vec<(usize, usize)> {
        let natural = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].text.chars().count());
            cells
                .chain([self.columns[at].title.len()])
                .max()
                .unwrap_or(0)
        };
        let mut shown: Vec<(usize, usize)> = (0..self.columns.len())
            // A column where nobody has anything to say is left out.
            .filter(|at| {
                self.columns[*at].rank == 0 || self.rows.iter().any(|row| !row[*at].text.is_empty())
            })
            .map(|at| (at, natural(at)))
            .collect();
        let Some(width) = width else {
            return shown;
        };
        while self.total(&shown, LEAST) > width {
            let last = shown
                .iter()
                .enumerate()
                .filter(|(_, c)| self.columns[c.0].rank > 0);
            let Some((place, _)) = last.max_by_key(|(_, c)| self.columns[c.0].rank) else {
                break;
            };
            shown.remove(place);
        }
        self.squeeze(&mut shown, width);
        shown
    }

    /// The width of a line if elastic columns take at most `most`.
    fn total(&self, shown: &[(usize, usize)], most: usize) -> usize {
        let widths = shown
            .iter()
            .map(|(at, width)| match self.columns[*at].elastic {
                true => (*width).min(most),
                false => *width,
            });
        widths.sum::<usize>() + GAP * shown.len().saturating_sub(1)
    }

    /// Makes the widest elastic column narrower until all fits.
    fn squeeze(&self, shown: &mut [(usize, usize)], width: usize) {
        loop {
            let over = self.total(shown, usize::MAX).saturating_sub(width);
            if over == 0 {
                return;
            }
            let elastic = shown.iter_mut().filter(|(at, _)| self.columns[*at].elastic);
            match elastic.max_by_key(|(_, width)| *width) {
                Some((_, wide)) if *wide > LEAST => *wide -= over.min(*wide - LEAST),
                Some(_) | None => return,
            }
        }
    }

    fn line(
        &self,
        cells: &[Cell],
        shown: &[(usize, usize)],
        colours: bool,
        most: Option<usize>,
    ) -> String {
        let mut out = String::new();
        let mut used = 0;
        let most = most.unwrap_or(usize::MAX);
        for (place, (at, width)) in shown.iter().enumerate() {
            let (cell, column) = (&cells[*at], self.columns[*at]);
            // What does not fit by any means is cut at the edge.
            let room = (*width).min(most.saturating_sub(used));
            let text = cut(&cell.text, room);
            let fill = " ".repeat(room - text.chars().count());
            let painted = cell.paint.on(&text, colours);
            let last = place + 1 == shown.len();
            match (column.right, last) {
                (true, _) => out.push_str(&format!("{fill}{painted}")),
                (false, true) => out.push_str(&painted),
                (false, false) => out.push_str(&format!("{painted}{fill}")),
            }
            used += room;
            if !last {
                let gap = GAP.min(most.saturating_sub(used));
                out.push_str(&" ".repeat(gap));
                used += gap;
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&[
            left("SERVICE", 0),
            right("RUNNING", 0),
            right("FAILED", 2),
            left("NONE", 1),
            elastic("WHY", 1),
        ]);
        grid.row([
            "git".into(),
            "3/100".into(),
            Cell::trouble(2),
            "".into(),
            "".into(),
        ]);
        let why = "every one of its instances is busy";
        grid.row([
            "a-long-name".into(),
            "10/10".into(),
            Cell::trouble(0),
            "".into(),
            why.into(),
        ]);
        grid
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(
            grid().render(None, false),
            "SERVICE      RUNNING  FAILED  WHY\n\
             git            3/100       2\n\
             a-long-name    10/10       0  every one of its instances is busy\n"
        );
    }

    #[test]
    fn a_narrow_terminal_cuts_and_then_drops() {
        assert_eq!(
            grid().render(Some(40), false),
            "SERVICE      RUNNING  FAILED  WHY\n\
             git            3/100       2\n\
             a-long-name    10/10       0  every one…\n"
        );
        assert_eq!(
            grid().render(Some(31), false),
            "SERVICE      RUNNING  WHY\n\
             git            3/100\n\
             a-long-name    10/10  every one\n"
                .replace("every one", "every on…")
        );
        assert_eq!(
            grid().render(Some(20), false),
            "SERVICE      RUNNING\n\
             git            3/100\n\
             a-long-name    10/10\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_it_may_be() {
        for width in 0..80 {
            for line in grid().lines(Some(width), false) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colours_do_not_move_columns() {
        let plain = grid().render(Some(60), false);
        let mut bare = String::new();
        let coloured = grid().render(Some(60), true);
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            bare.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        bare.push_str(rest);
        assert_ne!(coloured, plain);
        let trimmed = |text: &str| {
            text.lines()
                .map(str::trim_end)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(trimmed(&bare), trimmed(&plain));
    }
}
