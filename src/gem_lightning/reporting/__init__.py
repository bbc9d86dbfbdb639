"""What people see: pages, plots and terminal tables."""
