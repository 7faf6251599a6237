//! One description of each entry's fields, for reading and for writing.

use std::borrow::Cow;

use crate::canonical::{JsonError, Reader, write_int, write_text};

type Result<T> = std::result::Result<T, JsonError>;

/// A value of a closed set of words.
pub trait Word: Copy + Default + 'static {
    /// The set.
    const ALL: &'static [Self];
    /// As it is written.
    fn as_str(self) -> &'static str;
}

/// Goes over an entry's fields in canonical order, reading or writing them.
pub trait Codec<'a>: Sized {
    /// A string.
    fn text(&mut self, key: &'static str, value: &mut Cow<'a, str>) -> Result<()>;
    /// An integer.
    fn int(&mut self, key: &'static str, value: &mut i64) -> Result<()>;
    /// A string that is always the same.
    fn constant(&mut self, key: &'static str, value: &'static str) -> Result<()>;
    /// A word of a closed set.
    fn word<W: Word>(&mut self, key: &'static str, value: &mut W) -> Result<()>;
    /// An object.
    fn object(&mut self, key: &'static str, fields: impl FnMut(&mut Self) -> Result<()>) -> Result<()>;
    /// An object that may be absent.
    fn optional<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Option<T>,
        fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()>;
    /// An integer that may be absent.
    fn optional_int(&mut self, key: &'static str, value: &mut Option<i64>) -> Result<()>;
    /// A string that may be absent.
    fn optional_text(&mut self, key: &'static str, value: &mut Option<Cow<'a, str>>) -> Result<()>;
    /// A list of objects.
    fn list<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Vec<T>,
        fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()>;
}

impl<'a> Codec<'a> for Reader<'a> {
    fn text(&mut self, key: &'static str, value: &mut Cow<'a, str>) -> Result<()> {
        self.key(key)?;
        *value = Reader::text(self)?;
        Ok(())
    }

    fn int(&mut self, key: &'static str, value: &mut i64) -> Result<()> {
        self.key(key)?;
        *value = Reader::int(self)?;
        Ok(())
    }

    fn constant(&mut self, key: &'static str, value: &'static str) -> Result<()> {
        self.key(key)?;
        let at = self.position();
        if Reader::text(self)? == value {
            return Ok(());
        }
        Err(JsonError { at, reason: format!("'{key}' must be '{value}'").into() })
    }

    fn word<W: Word>(&mut self, key: &'static str, value: &mut W) -> Result<()> {
        self.key(key)?;
        let at = self.position();
        let found = Reader::text(self)?;
        match W::ALL.iter().find(|w| w.as_str() == found) {
            Some(word) => {
                *value = *word;
                Ok(())
            }
            None => {
                let all: Vec<&str> = W::ALL.iter().map(|w| w.as_str()).collect();
                let reason = format!("'{key}' is '{found}', not one of: {}", all.join(", "));
                Err(JsonError { at, reason: reason.into() })
            }
        }
    }

    fn object(&mut self, key: &'static str, fields: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.key(key)?;
        Reader::object(self, fields)
    }

    fn optional<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Option<T>,
        mut fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()> {
        if Reader::optional(self, key) {
            let item = value.insert(T::default());
            Reader::object(self, |r| fields(r, item))?;
        }
        Ok(())
    }

    fn optional_int(&mut self, key: &'static str, value: &mut Option<i64>) -> Result<()> {
        if Reader::optional(self, key) {
            *value = Some(Reader::int(self)?);
        }
        Ok(())
    }

    fn optional_text(&mut self, key: &'static str, value: &mut Option<Cow<'a, str>>) -> Result<()> {
        if Reader::optional(self, key) {
            *value = Some(Reader::text(self)?);
        }
        Ok(())
    }

    fn list<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Vec<T>,
        mut fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()> {
        self.key(key)?;
        Reader::list(self, |r| {
            let mut item = T::default();
            Reader::object(r, |r| fields(r, &mut item))?;
            value.push(item);
            Ok(())
        })
    }
}

/// Writes canonical bytes; the fields come in canonical order already.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Writes an object.
    pub fn document(fields: impl FnOnce(&mut Self) -> Result<()>) -> Vec<u8> {
        let mut writer = Self { out: Vec::with_capacity(768) };
        writer.out.push(b'{');
        // Writing has nothing that can fail.
        let _ = fields(&mut writer);
        writer.out.push(b'}');
        writer.out
    }

    fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

impl<'a> Codec<'a> for Writer {
    fn text(&mut self, key: &'static str, value: &mut Cow<'a, str>) -> Result<()> {
        self.key(key);
        write_text(&mut self.out, value);
        Ok(())
    }

    fn int(&mut self, key: &'static str, value: &mut i64) -> Result<()> {
        self.key(key);
        write_int(&mut self.out, *value);
        Ok(())
    }

    fn constant(&mut self, key: &'static str, value: &'static str) -> Result<()> {
        self.key(key);
        write_text(&mut self.out, value);
        Ok(())
    }

    fn word<W: Word>(&mut self, key: &'static str, value: &mut W) -> Result<()> {
        self.constant(key, value.as_str())
    }

    fn object(&mut self, key: &'static str, mut fields: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.key(key);
        self.out.push(b'{');
        fields(self)?;
        self.out.push(b'}');
        Ok(())
    }

    fn optional<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Option<T>,
        mut fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()> {
        match value {
            Some(value) => self.object(key, |w| fields(w, value)),
            None => Ok(()),
        }
    }

    fn optional_int(&mut self, key: &'static str, value: &mut Option<i64>) -> Result<()> {
        value.as_mut().map_or(Ok(()), |v| self.int(key, v))
    }

    fn optional_text(&mut self, key: &'static str, value: &mut Option<Cow<'a, str>>) -> Result<()> {
        value.as_mut().map_or(Ok(()), |v| self.text(key, v))
    }

    fn list<T: Default>(
        &mut self,
        key: &'static str,
        value: &mut Vec<T>,
        mut fields: impl FnMut(&mut Self, &mut T) -> Result<()>,
    ) -> Result<()> {
        self.key(key);
        self.out.push(b'[');
        for (i, item) in value.iter_mut().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.push(b'{');
            fields(self, item)?;
            self.out.push(b'}');
        }
        self.out.push(b']');
        Ok(())
    }
}
