//! A plot is XML that every reader takes, whatever was measured and however it is named.

use super::*;

/// Whether each element that opens closes, in order, and nothing stands there that may not.
fn is_well_formed(text: &str) -> bool {
    let (mut open, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('<') {
        let Some((tag, after)) = after.split_once('>') else { return false };
        let entities_are_known = before
            .split('&')
            .skip(1)
            .all(|rest| ["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| rest.starts_with(entity)));
        if !entities_are_known || before.contains('>') || tag.matches('"').count() % 2 == 1 {
            return false;
        }
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(_), _) if open.pop() != Some(name) => return false,
            (None, false) => open.push(name),
            _ => {}
        }
        rest = after;
    }
    open.is_empty() && rest.trim().is_empty()
}

fn panel(points: &[(usize, f64)]) -> Panel {
    let spread = |median: f64| Spread { min: median * 0.9, median, max: median * 1.1 };
    let points = points.iter().map(|(at, median)| (*at, spread(*median))).collect();
    Panel {
        title: "MB/s by workers".into(),
        x_title: "workers".into(),
        y_title: "MB/s".into(),
        values: vec!["1".into(), "2".into(), "4".into()],
        lines: vec![
            Line { name: "restore & <what> \"else\"\u{1}".into(), points, is_floor: false },
            Line { name: "cp".into(), points: vec![(0, spread(5.0))], is_floor: true },
        ],
    }
}

#[test]
fn a_plot_is_well_formed_whatever_was_measured() {
    assert!(!is_well_formed("<a><b></a></b>") && !is_well_formed("<a>&b</a>") && is_well_formed("<a><b c=\"1\"/></a>"));
    let many: Vec<(usize, f64)> = (0..3).map(|at| (at, 10f64.powi(at as i32))).collect();
    for panels in [
        vec![],
        vec![panel(&[])],
        vec![panel(&[(0, 0.0)])],
        vec![panel(&[(1, f64::NAN)]), panel(&many), panel(&[(2, 1e12)])],
    ] {
        let image = svg("restore <of> & \"more\"", ["4 sites", "a & b"], &panels);
        assert!(is_well_formed(&image), "{image}");
        assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
        assert_eq!(image.matches("<g transform").count(), panels.len());
    }
    assert!(svg("", ["", ""], &[panel(&many)]).contains("prefers-color-scheme:dark"));
}

#[test]
fn an_axis_has_round_numbers_up_to_what_is_drawn() {
    let check = |largest: f64, want: f64| assert_eq!(step(largest), want, "{largest}");
    check(0.0, 1.0);
    check(1.0, 0.2);
    check(6.0, 1.0);
    check(450.0, 100.0);
    check(700.0, 200.0);
    check(0.031, 0.01);
    assert_eq!([number(0.2, 0.2), number(400.0, 100.0), number(0.03, 0.01)], ["0.2", "400", "0.03"]);
    assert_eq!(steps(&panel(&[(0, 450.0)]), 100.0), 5);
}
