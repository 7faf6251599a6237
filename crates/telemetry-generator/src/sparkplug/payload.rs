//! What a Sparkplug B message carries: the fields of Eclipse Tahu's `sparkplug_b.proto` that readings
//! need. Others (data sets, templates, properties) are skipped, as Protocol Buffers allow.

use prost::{Message, Oneof};

/// A message.
#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// When it was sent, ms since 1970.
    #[prost(uint64, optional, tag = "1")]
    pub timestamp: Option<u64>,
    /// What it tells.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<Metric>,
    /// Number of the edge node's message, 0 to 255 and round again.
    #[prost(uint64, optional, tag = "3")]
    pub seq: Option<u64>,
}

/// A value with its name, or after the birth with its alias alone.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Number that stands for the name after the birth.
    #[prost(uint64, optional, tag = "2")]
    pub alias: Option<u64>,
    /// When it was measured, ms since 1970.
    #[prost(uint64, optional, tag = "3")]
    pub timestamp: Option<u64>,
    /// One of [`datatype`].
    #[prost(uint32, optional, tag = "4")]
    pub datatype: Option<u32>,
    /// Measured while the broker was away.
    #[prost(bool, optional, tag = "5")]
    pub is_historical: Option<bool>,
    /// There is no value.
    #[prost(bool, optional, tag = "7")]
    pub is_null: Option<bool>,
    /// The value.
    #[prost(oneof = "Value", tags = "10, 11, 12, 13, 14, 15")]
    pub value: Option<Value>,
}

/// A value. Negative integers are in two's complement, in as many bits as the field has.
#[derive(Clone, PartialEq, Oneof)]
pub enum Value {
    /// Integers of up to 32 bits.
    #[prost(uint32, tag = "10")]
    Int(u32),
    /// Integers of 64 bits.
    #[prost(uint64, tag = "11")]
    Long(u64),
    /// Single precision.
    #[prost(float, tag = "12")]
    Float(f32),
    /// Double precision.
    #[prost(double, tag = "13")]
    Double(f64),
    /// True or false.
    #[prost(bool, tag = "14")]
    Boolean(bool),
    /// Text.
    #[prost(string, tag = "15")]
    Text(String),
}

/// Numbers of the data types that readings use.
pub mod datatype {
    /// Signed, 8 bits; 16, 32 and 64 follow.
    pub const INT8: u32 = 1;
    /// Signed, 32 bits.
    pub const INT32: u32 = 3;
    /// Signed, 64 bits.
    pub const INT64: u32 = 4;
    /// Unsigned, 64 bits.
    pub const UINT64: u32 = 8;
    /// Double precision.
    pub const DOUBLE: u32 = 10;
    /// True or false.
    pub const BOOLEAN: u32 = 11;
}

/// A number, as what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Whole(i64),
    /// With a fraction, or not a number at all.
    Real(f64),
}

impl Payload {
    /// The number of the message; `None` if there is none of 0 to 255.
    pub fn sequence(&self) -> Option<u8> {
        self.seq.and_then(|seq| u8::try_from(seq).ok())
    }

    /// What the metric of this name says; `None` without one, `Some(None)` if it is no number.
    pub fn number(&self, name: &str) -> Option<Option<Number>> {
        let metric = self.metrics.iter().find(|metric| metric.name.as_deref() == Some(name))?;
        Some(metric.number(metric.datatype.unwrap_or_default()))
    }
}

impl Metric {
    /// A metric with a name, a number for it, and its type.
    pub fn born(name: &str, alias: u64, datatype: u32, value: Value) -> Self {
        Self {
            name: Some(name.to_owned()),
            alias: Some(alias),
            datatype: Some(datatype),
            value: Some(value),
            ..Self::default()
        }
    }

    /// The value as a number; text, nothing, and what does not fit into 63 bits are none.
    pub fn number(&self, datatype: u32) -> Option<Number> {
        if self.is_null == Some(true) {
            return None;
        }
        let signed = (datatype::INT8..=datatype::INT64).contains(&datatype);
        Some(match self.value.as_ref()? {
            // An encoder may send as many bits as the type has, or all 32.
            Value::Int(bits) => Number::Whole(match datatype {
                datatype::INT8 => i64::from(*bits as u8 as i8),
                2 => i64::from(*bits as u16 as i16),
                datatype::INT32 => i64::from(*bits as i32),
                _ => i64::from(*bits),
            }),
            Value::Long(bits) if signed => Number::Whole(*bits as i64),
            Value::Long(bits) => Number::Whole(i64::try_from(*bits).ok()?),
            Value::Float(real) => Number::Real(f64::from(*real)),
            Value::Double(real) => Number::Real(*real),
            Value::Boolean(yes) => Number::Whole(i64::from(*yes)),
            Value::Text(_) => return None,
        })
    }
}

impl Number {
    /// With a fraction.
    pub fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }

    /// Whole; `None` with a fraction, or beyond 53 bits where it came as a real.
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(whole) => Some(whole),
            Self::Real(real) => (real.fract() == 0.0 && real.abs() < 9_007_199_254_740_992.0).then_some(real as i64),
        }
    }
}
