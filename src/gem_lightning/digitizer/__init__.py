"""Paper ECGs back to signals: a photo, scan or PDF page in, a record with its trust out."""
