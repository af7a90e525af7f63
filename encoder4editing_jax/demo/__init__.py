"""The page in the browser: `e4e demo`.

`engine` holds the networks, `session` what one visitor has done, `page` how
it looks, `serving` the process. Only `page` and `serving` know the framework.
"""
