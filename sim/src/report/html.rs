//! HTML by hand: escaping, tables, figures.

use std::fmt::Write;

/// Text as it may stand between tags and in quoted attributes. What HTML and XML do not allow at
/// all becomes U+FFFD.
pub(super) fn esc(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(letter),
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Figures under a plot. The first column is where on the x axis a row is, for those who hover.
#[derive(Debug, Default)]
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<(Option<f64>, Vec<String>)>,
}

/// Rows of a table under a plot.
const ROWS_MAX: usize = 61;

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// A row that belongs to a place on the x axis.
    pub(super) fn at(&mut self, x: f64, cells: Vec<String>) {
        self.rows.push((Some(x), cells));
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push((None, cells));
    }

    /// All rows.
    pub(super) fn html(&self) -> String {
        self.write(&(0..self.rows.len()).collect::<Vec<_>>())
    }

    /// At most [`ROWS_MAX`] rows, evenly chosen, the first and the last among them.
    fn thinned(&self) -> String {
        let (count, last) = (self.rows.len().min(ROWS_MAX), self.rows.len().saturating_sub(1));
        let places: Vec<_> =
            (0..count).map(|at| if count > 1 { at * last / (count - 1) } else { 0 }).collect();
        self.write(&places)
    }

    fn write(&self, places: &[usize]) -> String {
        let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
        for name in &self.head {
            let _ = write!(out, "<th scope=\"col\">{}</th>", esc(name));
        }
        out.push_str("</tr></thead><tbody>");
        for (x, cells) in places.iter().map(|place| &self.rows[*place]) {
            match x {
                Some(x) => {
                    let _ = write!(out, "<tr data-x=\"{x:.3}\">");
                }
                None => out.push_str("<tr>"),
            }
            for cell in cells {
                let _ = write!(out, "<td>{}</td>", esc(cell));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div>");
        out
    }
}

/// A plot with what it is, what its colours mean, and its figures.
#[derive(Debug, Default)]
pub(super) struct Figure<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What is to be seen, in a sentence or two.
    pub(super) says: String,
    /// Classes and what they stand for.
    pub(super) legend: Vec<(&'a str, String)>,
    /// For wide pages, and for narrow ones; with one alone, that is for both.
    pub(super) plots: Vec<String>,
    pub(super) table: Option<Table>,
    /// Takes the whole width.
    pub(super) wide: bool,
}

impl Figure<'_> {
    pub(super) fn html(&self) -> String {
        let mut out = String::new();
        let wide = if self.wide { " wide" } else { "" };
        let _ = write!(
            out,
            "<figure class=\"card{wide}\" id=\"{}\"><figcaption><h3>{}</h3><p>{}</p></figcaption>",
            esc(self.id),
            esc(self.title),
            esc(&self.says)
        );
        if !self.legend.is_empty() {
            out.push_str("<ul class=\"legend\">");
            for (class, means) in &self.legend {
                let _ = write!(out, "<li><i class=\"key {class}\"></i>{}</li>", esc(means));
            }
            out.push_str("</ul>");
        }
        match &self.plots[..] {
            [wide, narrow] => {
                let _ = write!(
                    out,
                    "<div class=\"on-wide\">{wide}</div><div class=\"on-narrow\">{narrow}</div>"
                );
            }
            plots => plots.iter().for_each(|plot| out.push_str(plot)),
        }
        if let Some(table) = &self.table {
            let _ = write!(
                out,
                "<details class=\"numbers\"><summary>Figures</summary>{}</details>",
                table.thinned()
            );
        }
        out.push_str("</figure>\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_text_becomes_markup() {
        assert_eq!(
            esc("<b a='1' c=\"2\">&\u{0}"),
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{fffd}"
        );
        let mut table = Table::new(&["<h>"]);
        table.row(vec!["<script>".into()]);
        let html = table.html();
        assert!(!html.contains("<script>") && !html.contains("<h>"), "{html}");
    }

    #[test]
    fn a_long_table_keeps_its_ends() {
        let mut table = Table::new(&["n"]);
        for number in 0..1_000 {
            table.at(f64::from(number), vec![number.to_string()]);
        }
        let html = table.thinned();
        assert_eq!(html.matches("<tr data-x").count(), ROWS_MAX);
        assert!(html.contains("<td>0</td>") && html.contains("<td>999</td>"));
    }
}
