//! A trace as a Parquet file: the columns of the CSV by the same names.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use crate::runner::journal::Exchange;

/// Rows of a row group.
const GROUP: usize = 8192;
/// What a row takes in memory at least, in bytes: for the size of what is not written yet.
const ROW: u64 = 40;

/// A Parquet file under way.
pub(super) struct ParquetTrace {
    writer: SerializedFileWriter<File>,
    rows: Rows,
    written: u64,
}

#[derive(Default)]
struct Rows {
    integers: [Vec<i64>; 4],
    temperatures: Vec<f64>,
    /// 1 where there is a temperature.
    measured: Vec<i16>,
    sources: Vec<ByteArray>,
}

impl ParquetTrace {
    /// Starts `file`.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let start = || -> Result<_, ParquetError> {
            let integer =
                |name| Type::primitive_type_builder(name, Physical::INT64).with_repetition(Repetition::REQUIRED);
            let mut fields = Vec::new();
            for name in ["local_ns", "offset_ns", "delay_ns", "root_distance_ns"] {
                fields.push(Arc::new(integer(name).build()?));
            }
            let celsius = Type::primitive_type_builder("temperature_c", Physical::DOUBLE);
            fields.push(Arc::new(celsius.with_repetition(Repetition::OPTIONAL).build()?));
            let source = Type::primitive_type_builder("source", Physical::BYTE_ARRAY);
            let source = source.with_repetition(Repetition::REQUIRED).with_logical_type(Some(LogicalType::String));
            fields.push(Arc::new(source.build()?));
            let schema = Arc::new(Type::group_type_builder("trace").with_fields(fields).build()?);
            SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::builder().build()))
        };
        Ok(Self { writer: start().map_err(io::Error::other)?, rows: Rows::default(), written: 0 })
    }

    /// Appends an exchange.
    pub(super) fn write(&mut self, exchange: &Exchange, source: &str) -> io::Result<()> {
        let Exchange { local_ns, offset_ns, delay_ns, root_distance_ns, .. } = *exchange;
        for (column, value) in self.rows.integers.iter_mut().zip([local_ns, offset_ns, delay_ns, root_distance_ns]) {
            column.push(value);
        }
        let celsius = exchange.temperature_c.filter(|celsius| celsius.is_finite());
        self.rows.temperatures.extend(celsius);
        self.rows.measured.push(i16::from(celsius.is_some()));
        self.rows.sources.push(ByteArray::from(source));
        if self.rows.sources.len() >= GROUP { self.end_group() } else { Ok(()) }
    }

    /// How large it is, the rows in memory included.
    pub(super) fn bytes(&self) -> u64 {
        self.written + ROW * self.rows.sources.len() as u64
    }

    /// Ends the file; returns its size.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.end_group()?;
        let file = self.writer.into_inner().map_err(io::Error::other)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }

    fn end_group(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.sources.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(io::Error::other)?;
        let write = |group: &mut SerializedRowGroupWriter<'_, File>| -> Result<(), ParquetError> {
            let missing = || ParquetError::General("a column is missing".to_owned());
            for column in &rows.integers {
                let mut out = group.next_column()?.ok_or_else(missing)?;
                out.typed::<Int64Type>().write_batch(column, None, None)?;
                out.close()?;
            }
            let mut out = group.next_column()?.ok_or_else(missing)?;
            out.typed::<DoubleType>().write_batch(&rows.temperatures, Some(&rows.measured), None)?;
            out.close()?;
            let mut out = group.next_column()?.ok_or_else(missing)?;
            out.typed::<ByteArrayType>().write_batch(&rows.sources, None, None)?;
            out.close()
        };
        write(&mut group).map_err(io::Error::other)?;
        let done = group.close().map_err(io::Error::other)?;
        self.written += u64::try_from(done.compressed_size()).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("chronotick-parquet-{}", std::process::id()));
        let mut trace = ParquetTrace::new(File::create(&path).expect("temporary file")).expect("a schema");
        let rows = i64::try_from(GROUP).expect("small") + 10;
        for number in 0..rows {
            let exchange = Exchange {
                local_ns: number,
                utc_ns: 0,
                offset_ns: -number,
                delay_ns: 7,
                root_distance_ns: 8,
                temperature_c: (number % 2 == 0).then_some(21.5),
                source: String::new(),
                residual_ns: None,
                interval95_ns: None,
                bound_ns: None,
                refused: None,
            };
            trace.write(&exchange, "a").expect("temporary file");
        }
        let bytes = trace.finish().expect("temporary file");
        let file = File::open(&path).expect("temporary file");
        assert_eq!(file.metadata().expect("temporary file").len(), bytes);
        let reader = SerializedFileReader::new(file).expect("Parquet");
        let read: Vec<_> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        assert_eq!(read.len(), usize::try_from(rows).expect("small"));
        assert_eq!((read[9].get_long(1).expect("offset"), read[9].get_double(4).is_err()), (-9, true));
        assert_eq!(read[10].get_double(4).expect("temperature"), 21.5);
        assert_eq!(read[10].get_string(5).expect("source"), "a");
        std::fs::remove_file(&path).expect("temporary file");
    }
}
