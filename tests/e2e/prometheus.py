# SPDX-License-Identifier: PostgreSQL
"""A Prometheus that scrapes relays or gateways, by rules of deploy/prometheus.

    PGSTOCK_PROMETHEUS  the directory of its programs, as dev/prometheus
                        prints it
"""

import json
import os
import shutil
import urllib.parse

from cluster import HOST, need
from process import Server, http_get, run_tool, server_user, wait_until

DEPLOY = os.path.join(os.path.dirname(__file__), "../../deploy")
RULES = ("pgstock.rules.yml", "pgstock-disk.rules.yml")
GATEWAY_RULES = ("pgstock-gateway.rules.yml",)


def program(name):
    return os.path.join(need("PGSTOCK_PROMETHEUS"), name)


class Prometheus(Server):
    """One Prometheus on a port of loopback. It listens nowhere else, sends
    nothing, and asks the daemons once a second."""

    def __init__(self, directory, *daemons, job="pgstock", rules=RULES):
        super().__init__(directory)
        self.port = self.take_port()
        self.config_path = os.path.join(directory, "prometheus.yml")
        for name in rules:
            self.own(shutil.copy(os.path.join(DEPLOY, "prometheus", name),
                                 directory))
        targets = ", ".join(f'"{HOST}:{daemon.port}"' for daemon in daemons)
        with open(self.config_path, "w", encoding="utf-8") as file:
            file.write(f"""\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{", ".join(rules)}]
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: [{targets}]
        labels: {{database: shop}}
""")
        self.own(self.config_path)

    @staticmethod
    def own(path):
        user = server_user()
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)

    def start(self, timeout=60):
        run_tool([program("promtool"), "check", "config", self.config_path])
        self.spawn([program("prometheus"),
                    f"--config.file={self.config_path}",
                    f"--storage.tsdb.path={self.directory}/data",
                    f"--web.listen-address={HOST}:{self.port}",
                    "--log.level=warn"], {"GOMAXPROCS": "1"})
        wait_until(self.ready, timeout,
                   lambda: f"prometheus is not ready\n{self.tail()}")
        return self

    def ready(self):
        assert self.running, f"prometheus ended\n{self.tail()}"
        return self.get("/-/ready")[0] == 200

    def get(self, path, **query):
        """(status, body) of one request; status 0: it does not answer."""
        return http_get(HOST, self.port,
                        f"{path}?{urllib.parse.urlencode(query)}", timeout=20)

    def api(self, name, **query):
        """The data of a successful call of the HTTP API."""
        status, body = self.get(f"/api/v1/{name}", **query)
        assert status == 200, f"{query}: {body}"
        return json.loads(body)["data"]

    def query(self, expression):
        """[(labels, value)] of an expression now."""
        data = self.api("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [(row["metric"], float(row["value"][1]))
                for row in data["result"]]

    def alerts(self):
        """{name: its alerts} of all that fire or are about to."""
        found = {}
        for alert in self.api("alerts")["alerts"]:
            found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found
