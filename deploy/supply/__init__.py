"""What runs, where it comes from and under which terms: docs/licences.md is written here, from the packages' own metadata."""
