//! The counts of a small diary, in every output format.

use insta::assert_snapshot;
use jiff::ToSpan;
use jiff::civil::Date;

use super::counts::words;
use super::*;

const TODAY: Date = Date::constant(2026, 11, 21);

/// A realistic but deterministic year and a half: some days are empty, some busy, one far too busy.
fn diary() -> Counts {
    let mut counts = Counts::default();
    let texts = [
        ("anna", "two days of rain, then sun #Weather"),
        ("小明", "今天天气很好 #旅行 @anna"),
        ("ben_with_a_long_name", "nothing new"),
        ("anna", "#weather #weather again"),
    ];
    let mut take = |day: Date, number: usize| {
        let (author, text) = texts[number % texts.len()];
        counts.take(day, author, text);
    };
    for (number, day) in TODAY.saturating_sub(500.days()).series(1.day()).take(501).enumerate() {
        for entry in 0..(number * number / 7 + number / 3) % 9 % 6 {
            take(day, number + entry);
        }
    }
    (0..400).for_each(|number| take(Date::constant(2026, 3, 3), number));
    (0..5).for_each(|number| take(Date::constant(1987, 2, 28), number));
    counts
}

fn canvas(colour: bool, width: usize) -> Canvas {
    Canvas { colour, width }
}

#[test]
fn words_of_any_script() {
    for (text, count) in [
        ("", 0),
        ("two words", 2),
        ("can't, won't; e.g. 3.5 -- …", 4),
        ("今天天气很好", 6),
        ("ひらがな カタカナ", 5),
        ("mixed 今天 text。", 4),
        ("naïve café\n\tÄrger", 3),
        ("❤ 👍🏽 !", 0),
    ] {
        assert_eq!(words(text), count, "{text}");
    }
}

#[test]
fn streaks() {
    let counts = |days: &[&str]| {
        let mut counts = Counts::default();
        days.iter().for_each(|day| counts.take(day.parse().unwrap(), "a", "b"));
        let shown = |streak: Option<counts::Streak>| {
            streak.map_or_else(|| "none".to_owned(), |s| format!("{} {}..{}", s.days(), s.first, s.last))
        };
        (shown(counts.current_streak(TODAY)), shown(counts.longest_streak()))
    };
    let says = |current: &str, longest: &str| (current.to_owned(), longest.to_owned());
    assert_eq!(counts(&[]), says("none", "none"));
    assert_eq!(counts(&["2026-11-19"]), says("none", "1 2026-11-19..2026-11-19"));
    assert_eq!(counts(&["2026-11-20"]), says("1 2026-11-20..2026-11-20", "1 2026-11-20..2026-11-20"));
    assert_eq!(
        counts(&["2025-12-31", "2026-01-01", "2026-01-02", "2026-11-20", "2026-11-21"]),
        says("2 2026-11-20..2026-11-21", "3 2025-12-31..2026-01-02")
    );
    // Entries of tomorrow do not count yet; of two equally long streaks, the newer one does.
    assert_eq!(
        counts(&["2024-02-28", "2024-02-29", "2026-11-21", "2026-11-22"]),
        says("1 2026-11-21..2026-11-21", "2 2026-11-21..2026-11-22")
    );
    assert_eq!(counts(&["9999-12-31", "0000-01-01"]).1, "1 9999-12-31..9999-12-31");
}

#[test]
fn in_sentences() {
    assert_snapshot!("sentences", sentences(&diary(), TODAY, canvas(false, 0)));
    assert_snapshot!("sentences_narrow", sentences(&diary(), TODAY, canvas(false, 40)));
}

#[test]
fn maps() {
    let diary = diary();
    let weeks = Heat::up_to(TODAY, TODAY, &diary);
    assert_snapshot!("map", draw(&weeks, canvas(false, 0)));
    assert_snapshot!("map_wide", draw(&weeks, canvas(false, 120)));
    assert_snapshot!("map_narrow", draw(&weeks, canvas(false, 30)));
    assert_snapshot!("map_narrower", draw(&weeks, canvas(false, 12)));
    assert_snapshot!("map_colour", draw(&weeks, canvas(true, 80)).replace('\x1b', "ESC"));
    assert_snapshot!("map_year", draw(&Heat::year(2026, TODAY, &diary), canvas(false, 80)));
    assert_snapshot!("map_empty", draw(&Heat::year(2001, TODAY, &diary), canvas(false, 80)));
}

#[test]
fn a_map_fits_its_terminal() {
    let diary = diary();
    // The last map ends in the first week of a month, whose name does not fit.
    let maps = [
        Heat::year(2024, TODAY, &diary),
        Heat::up_to(TODAY, TODAY, &diary),
        Heat::up_to(Date::constant(2026, 7, 1), TODAY, &diary),
    ];
    for (width, colour, heat) in (1..=200).flat_map(|width| {
        [false, true].into_iter().flat_map(move |colour| [0, 1, 2].map(|heat| (width, colour, heat)))
    }) {
        let canvas = canvas(colour, width);
        let shown = sentences(&diary, TODAY, canvas) + &draw(&maps[heat], canvas);
        assert!(
            shown.lines().map(textwrap::core::display_width).all(|columns| columns <= width.max(12)),
            "{width} {colour}:\n{shown}"
        );
        assert!(shown.contains("Sun "), "{width} {colour}:\n{shown}");
    }
}

/// Years at either end of the calendar, and every other kind of year, have each day once.
#[test]
fn a_map_has_every_day_once() {
    for year in [0, 1999, 2000, 2021, 2024, 2026, 9999] {
        let heat = Heat::year(year, Date::MAX, &Counts::default());
        let days: Vec<Date> = heat.weeks().iter().flatten().flatten().map(|day| day.date).collect();
        let first = Date::constant(year, 1, 1);
        assert!(
            days.iter().copied().eq(first.series(1.day()).take_while(|day| day.year() == year)),
            "{year}"
        );
        assert_eq!(heat.months().len(), 12, "{year}");
    }
}

#[test]
fn pictures() {
    let mut counts = Counts::default();
    for (day, entries) in [("2026-11-19", 1), ("2026-11-20", 2), ("2026-11-21", 7)] {
        (0..entries).for_each(|_| counts.take(day.parse().unwrap(), "a", "b"));
    }
    let picture = svg(&Heat::up_to(TODAY, TODAY, &counts));
    let few = |line: &&str| !line.contains("class=\"s0\"") || line.contains("2026-11-1");
    assert_snapshot!("svg", picture.lines().filter(few).collect::<Vec<_>>().join("\n"));
    assert_eq!(picture.matches("<title>").count(), 364 - 1 + 1);
}

#[test]
fn tables() {
    let diary = diary();
    for (by, name) in
        [(By::Month, "by_month"), (By::Year, "by_year"), (By::Author, "by_author"), (By::Tag, "by_tag")]
    {
        assert_snapshot!(name, table(by, &diary.rows(by)));
    }
    let newest = |by: By| {
        let rows = diary.rows(by);
        table(by, &rows[rows.len() - 5..])
    };
    assert_snapshot!("by_day", newest(By::Day));
    assert_snapshot!("by_week", newest(By::Week));
}

#[test]
fn as_json() {
    let mut counts = Counts::default();
    counts.take(Date::constant(2026, 11, 20), "anna", "sun #a @ben");
    counts.take(TODAY, "小明", "今天 #A");
    assert_snapshot!("json", serde_json::to_string_pretty(&json(&counts, TODAY)).unwrap());
}
