"""`python -m tests.bench.load.echo PORT`: a bare Falcon and waitress server, the baseline for the cost of a POST."""

import json
import sys

import falcon
from waitress import serve


class Echo:
    """Returns the text of each request in the form of the facade's reply."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Parse the JSON body and answer with JSON."""
        document = json.load(request.bounded_stream)
        response.data = json.dumps({"status": "success", "uuid": document["msg"]}).encode()


if __name__ == "__main__":
    app = falcon.App()
    app.add_route("/facade", Echo())
    serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=16, ident=None, connection_limit=512)
