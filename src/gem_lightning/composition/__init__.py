"""Text, questions and answers composed from measurements."""
