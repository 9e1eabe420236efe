"""Ask for a model, wait until it is ready, and delete it again: with httpx.

URL=http://localhost:8082 KEY=… python models.py llama3.2 1b
"""

import argparse
import json
import os
import sys

import httpx


def main(name: str, tag: str, key: str) -> None:
    """Show the life of one model."""
    url = os.environ.get("URL", "http://localhost:8082")
    with httpx.Client(base_url=url, headers={"X-API-Key": key}) as api:
        answer = api.post("/api/v1/models", json={"name": name, "tag": tag})
        if answer.is_error:
            problem = answer.json()
            sys.exit(f"{problem['title']}: {problem['detail']}")
        model = answer.headers["location"]
        # An event stream is silent for up to 15 seconds.
        with api.stream("GET", f"{model}/events", timeout=30) as events:
            for line in events.iter_lines():
                if line.startswith("data: "):
                    seen = json.loads(line.removeprefix("data: "))
                    print(seen["state"], seen.get("progress", {}).get("text", ""))
                    if seen["ready"] or seen.get("stalled"):
                        break
        print([each["name"] for each in api.get("/api/v1/models").json()["items"]])
        api.delete(model).raise_for_status()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Set KEY to a key of the API, and URL to its address."
    )
    parser.add_argument("name", help="as llama3.2")
    parser.add_argument("tag", help="as 1b")
    given = parser.parse_args()
    if not os.environ.get("KEY"):
        parser.error("the variable KEY is not set; it is the key of the API")
    main(given.name, given.tag, os.environ["KEY"])
