"""Reports: pages, curves and tables."""
