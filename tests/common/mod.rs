//! The tests' only harness: stacks and trees as readable text, and what becomes of a stack in each form.
//!
//! A stack is written on one line, layers from the bottom up with `|` between, entries with commas:
//!
//! ```text
//! D d(1770,5:6,m=111,user.k=v), F d/a(text) | W d/a, O e, L s->t, H b=d/a, C null:1.3(666), B b:7.0, P p
//! ```
//!
//! `D` directory, `F` file, `L` symlink, `H` hard link, `C` and `B` devices, `P` FIFO, `W` whiteout, `O` opaque whiteout;
//! `D .` is the entry for the root. In parentheses: for files first the content, then in any order mode, `uid:gid`,
//! `m=` mtime, and xattrs. What is not said: mode 0644, directories 0755, owner 0:0, mtime 1000, and the last component
//! of the name as a file's content. `\xNN` stands for a byte.
//!
//! A tree is written as the names in it: `d/` a directory, `a(text)` a file, `s->t` a symlink, `b=a` another name of
//! `a`, `n:c1.3` and `n:b7.0` devices, `p:p` a FIFO, `a:ghost` a name without a file. The root is `/`, and only written
//! if it is not 0755, 0:0, m=0.

#![allow(clippy::exit, clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

pub mod cases;
pub mod clock;
pub mod erofs;
pub mod fuse;
pub mod harness;
pub mod images;
pub mod inside;
pub mod loops;
pub mod oracle;
pub mod overlay;
pub mod place;
pub mod random;
pub mod run;
pub mod shown;
pub mod tar;
pub mod text;
pub mod tools;
pub mod tree;
pub mod unmount;
pub mod wait;
