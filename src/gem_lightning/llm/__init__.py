"""Chat client, response cache and budget for teachers and judges."""
