"""Load for a server of `nerfgen serve`, as a locustfile.

    pip install locust
    locust -f examples/load_service.py --host http://localhost:8080 --headless -u 256 -r 256 --run-time 60s --rate 0.2

Each user asks for a view of a random row from a random side, waits for the response, then 1 / `--rate` seconds on
average, and asks again. A server that is asked for more than it renders refuses the rest: these responses (429) are
listed as `refused`. All others but 200 are failures.
"""

import os
import random

from locust import FastHttpUser, events, task


@events.init_command_line_parser.add_listener
def add_options(parser):
    """The options of this file; locust has the others."""
    parser.add_argument("--rate", type=float, default=1.0, help="1 / (mean pause of a user, seconds).")
    parser.add_argument("--size", type=int, default=128, help="Size of a view, pixels.")
    parser.add_argument("--token", default=os.environ.get("NERFGEN_TOKEN", ""), help="Token of the server.")


class Viewer(FastHttpUser):
    """A program that shows objects."""

    def wait_time(self):
        """Seconds until the next request: users do not ask all at once."""
        return random.expovariate(self.environment.parsed_options.rate)

    def on_start(self):
        """Find out how many objects there are."""
        options = self.environment.parsed_options
        self.size = options.size
        self.headers = {"Authorization": f"Bearer {options.token}"} if options.token else {}
        self.rows = self.client.get("/v1/models", headers=self.headers).json()["models"][0]["rows"]

    @task
    def view(self):
        """One view as a PNG."""
        body = {
            "rows": [random.randrange(self.rows)],
            "cameras": {"yaw": [random.uniform(-40, 40)]},
            "size": self.size,
        }
        headers = {**self.headers, "Accept": "image/png"}
        with self.client.post(
            "/v1/render", json=body, headers=headers, name="view", catch_response=True
        ) as answer:
            if answer.status_code == 429:
                answer.request_meta["name"] = "refused"
                answer.success()
