//! Where a value is within an object: written out only when something is wrong there.

use std::fmt;

/// A path, as a chain of steps that live on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    above: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
    Item(usize),
}

impl Path<'static> {
    /// The object itself.
    pub const ROOT: Self = Self {
        above: None,
        step: Step::Field(""),
    };
}

impl<'a> Path<'a> {
    /// True for the object itself.
    pub fn is_root(&self) -> bool {
        self.above.is_none()
    }

    /// A field of the value here.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> Self {
        Self {
            above: Some(self),
            step: Step::Field(name),
        }
    }

    /// An entry of the map here.
    #[must_use]
    pub fn key(&'a self, key: &'a str) -> Self {
        Self {
            above: Some(self),
            step: Step::Key(key),
        }
    }

    /// An item of the list here.
    #[must_use]
    pub fn item(&'a self, index: usize) -> Self {
        Self {
            above: Some(self),
            step: Step::Item(index),
        }
    }
}

impl fmt::Display for Path<'_> {
    /// As `spec.ports[0].name` and `spec.labels[team]`; with `#` as `spec.labels.team`, which is
    /// how servers spell the place of a value that its schema does not allow.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(above) = self.above else {
            return Ok(());
        };
        above.fmt(f)?;
        match self.step {
            Step::Field(name) | Step::Key(name) if above.is_root() => f.write_str(name),
            Step::Key(key) if !f.alternate() => write!(f, "[{key}]"),
            Step::Field(name) | Step::Key(name) => write!(f, ".{name}"),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}
