"""The viewer in the browser, part by part; only `server.py` knows viser."""
