"""Sources of records: public datasets, tables, folders."""
