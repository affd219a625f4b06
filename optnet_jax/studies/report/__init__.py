"""Tables 4 and 5, and their like on digits, from ``result.json`` files."""
