"""Files of every format as tables: a header and rows that stream."""
