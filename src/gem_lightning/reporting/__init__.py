"""Reports for readers: HTML pages, plots and terminal tables."""
