"""One run as one HTML file: what is on the page is a JSON document made here; the page draws it.

`recording` has the run, from a finding or from a log; `caches` follows every cache through it; `document` puts
everything together, and `page` puts that into the template beside it.
"""
