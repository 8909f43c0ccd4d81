//! Plain tables, in the form that `docs/benchmarks.md` takes.

/// Rows below a heading, columns padded, as a Markdown table with an empty line after it.
pub fn text(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|");
    let heading = line(&heading.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    format!("{heading}|{rule}|\n{}\n", rows.iter().map(|row| line(row)).collect::<String>())
}
