"""`python -m tests.echo PORT`: the least that Falcon and waitress can do with a POST; a baseline to measure against."""

import json
import sys

import falcon
from waitress import serve


class Echo:
    """Answers with what it was sent, in the form of the facade's reply."""

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Parse JSON, answer JSON."""
        document = json.load(request.bounded_stream)
        response.data = json.dumps({"status": "success", "uuid": document["msg"]}).encode()


if __name__ == "__main__":
    app = falcon.App()
    app.add_route("/facade", Echo())
    serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=16, ident=None, connection_limit=512)
