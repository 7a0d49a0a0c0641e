"""The pages in the browser, under `/ui`: rendered by the server, without a build step and without outside requests.

A page does nothing that the REST API cannot do: it calls the same service functions. What is its own: sessions instead
of bearer tokens (`sessions`), protection of forms (`guards`), pictures of datasets (`pictures`, `marks`), and drawing.
"""
