//! Shell completions of `diary`, tested in the shells themselves: every command and all of its flags.

use std::fmt::Write;
use std::path::Path;

use crate::support::{Terminal, cli_command, peer, run};

/// Completions after some words, according to `--help`.
struct Known {
    words: Vec<String>,
    flags: Vec<String>,
    commands: Vec<String>,
}

impl Known {
    /// Returns those of `words` and all of its subcommands.
    async fn below(words: Vec<String>) -> Vec<Self> {
        let mut command = cli_command();
        command.args(&words).arg("--help");
        let help = run(&mut command, "").await.stdout;
        let indented = |line: &&str| line.starts_with("  ");
        let names = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(indented);
        // Long help texts continue further to the right.
        let names = names.filter_map(|line| line[2..].split(' ').next()).filter(|name| !name.is_empty());
        let commands: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
        let flags = help.lines().filter_map(|line| {
            let line = line.trim_start();
            let long = line
                .starts_with("--")
                .then_some(line)
                .or_else(|| line.get(4..).filter(|_| line.starts_with('-')));
            long?
                .split([' ', ','])
                .next()
                .filter(|flag| flag.len() > 2 && flag.starts_with("--"))
                .map(str::to_owned)
        });
        let known = Self { words, flags: flags.collect(), commands };
        let mut all = Vec::new();
        for name in &known.commands {
            all.extend(Box::pin(Self::below([&known.words[..], std::slice::from_ref(name)].concat())).await);
        }
        all.push(known);
        all
    }

    /// Returns the command line up to the word to complete.
    fn typed(&self, last: &str) -> String {
        self.words.iter().fold("diary".to_owned(), |typed, word| typed + " " + word) + " " + last
    }
}

/// Completes command lines in a shell.
trait Shell {
    /// Returns the completions of a line.
    async fn complete(&mut self, line: &str) -> String;
}

/// A shell driven by a script.
struct Scripted {
    shell: &'static str,
    flags: &'static [&'static str],
    /// Loads the completions and prints those of `$line`.
    script: &'static str,
    path: String,
}

impl Shell for Scripted {
    async fn complete(&mut self, line: &str) -> String {
        let mut command = peer(self.shell);
        command.args(self.flags).args(["-c", self.script]).env("PATH", &self.path).env("line", line);
        let ran = run(&mut command, "").await;
        assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{ran:?}");
        ran.stdout
    }
}

/// Calls the function as readline does: with all words, and the index of the last one.
const BASH: &str = r#"
source <(diary completions bash)
read -r -a COMP_WORDS <<<"$line"
[[ $line = *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
_diary diary "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = "diary completions fish | source; complete -C $line";

/// zsh completes in its line editor only, so the test must press a key.
struct Zsh(Terminal);

/// Its startup file: list all completions at once, however many, and nothing else.
const ZSHRC: &str = "\
diary completions zsh >$HOME/_diary
fpath=($HOME $fpath) LISTMAX=10000 PS1='type: '
setopt no_beep
zstyle ':completion:*' verbose no
autoload -U compinit
compinit -u -D
";

impl Zsh {
    async fn start(home: &Path, path: &str) -> Self {
        std::fs::write(home.join(".zshrc"), ZSHRC).unwrap();
        let mut command = peer("zsh");
        command.args(["-d", "-i"]).env_clear().envs([("PATH", path), ("TERM", "dumb")]).env("HOME", home);
        let mut zsh = Self(Terminal::start(command));
        zsh.0.sees("type: ").await;
        zsh.is_done().await;
        zsh
    }

    /// Waits until all input is processed; returns the output since.
    async fn is_done(&mut self) -> String {
        // The input is echoed as well, so it must differ from its output.
        self.0.types("\x15print do''ne\r").await;
        let shown = self.0.sees("done\r\n").await;
        // Until the prompt, the line discipline handles keys.
        self.0.sees("type: ").await;
        shown
    }
}

impl Shell for Zsh {
    async fn complete(&mut self, line: &str) -> String {
        // Ctrl-D lists the completions.
        self.0.types(&format!("{line}\x04")).await;
        self.is_done().await
    }
}

#[tokio::test]
async fn shells_complete_every_command_and_flag() {
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_diary-cli-under-test"), home.path().join("diary"))
        .unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let known = Known::below(Vec::new()).await;
    assert!(known.len() > 15 && known.iter().any(|known| known.words == ["outbox", "send"]));

    let scripted = |shell, flags, script| Scripted { shell, flags, script, path: path.clone() };
    let mut missing = String::new();
    let mut bash = scripted("bash", &["--norc"], BASH);
    missing += &missing_in(&mut bash, &known).await;
    // Without completions, the shell falls back to files.
    for (line, offered) in [("diary import ", ""), ("diary import a --format jrnl-", "jrnl-json")] {
        assert_eq!(bash.complete(line).await.trim(), offered, "{line}");
    }
    missing += &missing_in(&mut scripted("fish", &["--no-config"], FISH), &known).await;
    missing += &missing_in(&mut Zsh::start(home.path(), &path).await, &known).await;
    assert_eq!(missing, "");
}

/// Returns the completions that a shell lacks.
async fn missing_in(shell: &mut impl Shell, known: &[Known]) -> String {
    let mut missing = String::new();
    for known in known {
        for (last, words) in [("--", &known.flags), ("", &known.commands)] {
            let typed = known.typed(last);
            let offered = if words.is_empty() { String::new() } else { shell.complete(&typed).await };
            let offered: Vec<&str> = offered.split_whitespace().collect();
            for word in words.iter().filter(|word| !offered.contains(&word.as_str())) {
                writeln!(missing, "{typed}: {word} is not offered").unwrap();
            }
        }
    }
    missing
}
