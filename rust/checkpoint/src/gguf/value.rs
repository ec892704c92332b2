//! Values of the metadata, borrowed from the file.

use super::cursor::{Cursor, Read};

/// Arrays of arrays deeper than this are refused.
const DEEPEST: usize = 4;

/// The type of a value, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    fn read(cursor: &mut Cursor<'_>) -> Read<Self> {
        Ok(match cursor.u32()? {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            other => return Err(format!("value type {other} is unknown")),
        })
    }

    /// Fewest bytes of a value.
    fn least(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// One value; whole numbers of every width become [`Value::Integer`].
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Integer(i128),
    Float(f64),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
}

/// A list of values of one type, read when it is asked for.
#[derive(Clone, Copy)]
pub struct Array<'a> {
    pub kind: Kind,
    len: usize,
    start: Cursor<'a>,
}

impl std::fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an array ({} of {:?})", self.len, self.kind)
    }
}

impl<'a> Value<'a> {
    /// Reads a type and a value of it.
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Read<Self> {
        let kind = Kind::read(cursor)?;
        Self::of(kind, cursor, DEEPEST)
    }

    fn of(kind: Kind, cursor: &mut Cursor<'a>, depth: usize) -> Read<Self> {
        let integer = |n: i128| Ok(Self::Integer(n));
        match kind {
            Kind::U8 => integer(u8::from_le_bytes(cursor.array()?).into()),
            Kind::I8 => integer(i8::from_le_bytes(cursor.array()?).into()),
            Kind::U16 => integer(u16::from_le_bytes(cursor.array()?).into()),
            Kind::I16 => integer(i16::from_le_bytes(cursor.array()?).into()),
            Kind::U32 => integer(cursor.u32()?.into()),
            Kind::I32 => integer(i32::from_le_bytes(cursor.array()?).into()),
            Kind::U64 => integer(cursor.u64()?.into()),
            Kind::I64 => integer(i64::from_le_bytes(cursor.array()?).into()),
            Kind::F32 => Ok(Self::Float(f32::from_le_bytes(cursor.array()?).into())),
            Kind::F64 => Ok(Self::Float(f64::from_le_bytes(cursor.array()?))),
            Kind::Bool => match cursor.array()? {
                [0] => Ok(Self::Bool(false)),
                [1] => Ok(Self::Bool(true)),
                [other] => Err(format!("{other} is neither false (0) nor true (1)")),
            },
            Kind::String => cursor.string().map(Self::String),
            Kind::Array => {
                if depth == 0 {
                    return Err(format!("arrays are nested deeper than {DEEPEST}"));
                }
                let kind = Kind::read(cursor)?;
                let len = cursor.count(kind.least(), "elements")?;
                let start = *cursor;
                match kind {
                    Kind::String | Kind::Array | Kind::Bool => {
                        for _ in 0..len {
                            Self::of(kind, cursor, depth - 1)?;
                        }
                    }
                    // Numbers: any bytes will do, and `count` has measured them.
                    _ => {
                        cursor.take((len * kind.least()) as u64)?;
                    }
                }
                Ok(Self::Array(Array { kind, len, start }))
            }
        }
    }
}

impl<'a> Array<'a> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (kind, mut cursor) = (self.kind, self.start);
        // Reading once has shown that all of them are there.
        (0..self.len).map_while(move |_| Value::of(kind, &mut cursor, DEEPEST).ok())
    }

    /// The strings, or None if they are something else.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        let string = |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        };
        (self.kind == Kind::String).then(|| self.iter().filter_map(string))
    }
}
