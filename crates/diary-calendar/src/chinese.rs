//! Translation of Chinese days and times into English.

use super::WEEKDAYS;

/// English meanings and their Chinese words.
const WORDS: [(&str, &str); 28] = [
    ("3 days ago", "大前天"),
    ("2 days ago", "前天 前日"),
    ("yesterday", "昨天 昨日"),
    ("today", "今天 今日"),
    ("tomorrow", "明天 明日"),
    ("yesterday evening", "昨晚"),
    ("today evening", "今晚"),
    ("today morning", "今早"),
    ("last last year", "前年"),
    ("last year", "去年"),
    ("this year", "今年"),
    ("morning", "凌晨 早上 早晨 上午"),
    ("afternoon", "中午 下午 傍晚"),
    ("evening", "晚上"),
    ("ago", "以前 之前 前"),
    ("last", "上"),
    ("this", "这 本"),
    ("next", "下"),
    ("half an hour", "半小时 半个小时"),
    ("hours", "小时 钟头"),
    ("minutes", "分钟"),
    (":", "点 點 点钟"),
    ("30", "半"),
    ("", "整 分 个"),
    ("days", "天 日 号"),
    ("week", "周 星期 礼拜"),
    ("month", "月"),
    ("year", "年"),
];

/// Digits; the index is the value.
const DIGITS: &str = "零一二三四五六七八九";

/// Weekdays after 周; 周天 equals 周日.
const DAYS_OF_WEEK: &str = "一二三四五六日天";

/// Translates into English and lower case, for `days` and `clock`.
pub(crate) fn in_english(said: &str) -> String {
    let said = said.to_lowercase();
    let (mut rest, mut english) = (said.as_str(), String::new());
    while let Some(first) = rest.chars().next() {
        let number = rest.find(|c| !matches!(c, '十' | '两') && !DIGITS.contains(c)).unwrap_or(rest.len());
        let is_week = english.ends_with(" week ");
        let taken = if let Some(day) = DAYS_OF_WEEK.chars().position(|c| is_week && c == first) {
            english.extend(WEEKDAYS.split(' ').nth(day.min(6)));
            first.len_utf8()
        } else if let Some((word, meaning)) = longest(rest) {
            let space = if meaning.ends_with(|c: char| c.is_ascii_alphabetic()) { " " } else { "" };
            english.extend([space, meaning, space]);
            word.len()
        } else if let Some(value) = value(&rest[..number]) {
            english.push_str(&value.to_string());
            number
        } else {
            english.push(first);
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    english
}

/// Returns the longest word that `said` begins with, and its meaning.
fn longest(said: &str) -> Option<(&'static str, &'static str)> {
    let words = WORDS.iter().flat_map(|(meaning, words)| words.split(' ').map(move |word| (word, *meaning)));
    words.filter(|(word, _)| said.starts_with(word)).max_by_key(|(word, _)| word.len())
}

/// Returns the value of a number up to 九十九.
fn value(number: &str) -> Option<usize> {
    let one = |digit: &str| match digit {
        "两" => Some(2),
        _ => DIGITS.chars().position(|d| digit.chars().eq([d])),
    };
    match number.split_once('十') {
        None => one(number),
        Some((tens, ones)) => {
            let tens = if tens.is_empty() { 1 } else { one(tens)? };
            Some(tens * 10 + if ones.is_empty() { 0 } else { one(ones)? })
        }
    }
}
