"""What the REST API asks Kubernetes beyond objects: reviews of people, and dry runs."""

import pytest

from crd.v1alpha1 import FINALIZER

ANSWERED = {"Created": 201}


def review(kube, group, plural, kind, spec):
    """Ask for a review; return its status."""
    body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": spec}
    answer = kube.client.post(f"/apis/{group}/v1/{plural}", json=body)
    assert answer.status_code == ANSWERED["Created"], answer.text
    return answer.json()["status"]


def test_a_token_of_nobody_is_not_authenticated(kube):
    """The review succeeds; its status has no `authenticated`, or false."""
    spec = {"token": "of-nobody"}
    status = review(kube, "authentication.k8s.io", "tokenreviews", "TokenReview", spec)
    assert not status.get("authenticated")


def test_a_stranger_may_do_nothing(kube):
    """The review succeeds, and says no."""
    where = {"group": "ollama.smithforge.dev", "resource": "ollamamodels", "verb": "get"}
    spec = {"user": "stranger", "resourceAttributes": where | {"namespace": kube.namespace}}
    group, kind = "authorization.k8s.io", "SubjectAccessReview"
    assert review(kube, group, "subjectaccessreviews", kind, spec)["allowed"] is False


def test_a_stranger_may_read_no_path(kube):
    """Which is asked about in other words than an object."""
    spec = {"user": "stranger", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}
    group, kind = "authorization.k8s.io", "SubjectAccessReview"
    assert review(kube, group, "subjectaccessreviews", kind, spec)["allowed"] is False


def test_a_dry_run_of_a_create_shows_the_object_and_makes_none(kube):
    """With an identity, as if it were there."""
    made = kube.client.post(kube.models, json=kube.model("phi"), params={"dryRun": "All"})
    assert (made.status_code, made.json()["metadata"]["generation"]) == (201, 1)
    assert made.json()["metadata"]["uid"]
    assert kube.client.get(f"{kube.models}/phi").status_code == 404


def test_a_dry_run_is_judged_like_the_real_thing(kube):
    """Names that are taken, specs that break the schema."""
    kube.create("phi")
    dry = {"dryRun": "All"}
    taken = kube.client.post(kube.models, json=kube.model("phi"), params=dry)
    bad = kube.client.post(kube.models, json=kube.model("new", {"name": "phi3"}), params=dry)
    assert (taken.status_code, bad.status_code) == (409, 422)


def test_a_dry_run_of_a_change_changes_nothing(kube):
    """Of a patch and of a deletion, with finalizers and without."""
    kube.create("phi", finalizers=[FINALIZER])
    before = kube.get("phi")
    patched = kube.client.patch(
        f"{kube.models}/phi",
        params={"dryRun": "All"},
        json={"spec": {"tag": "other"}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert (patched.status_code, patched.json()["spec"]["tag"]) == (200, "other")
    assert kube.client.delete(f"{kube.models}/phi", params={"dryRun": "All"}).status_code == 200
    assert kube.get("phi") == before


@pytest.mark.parametrize("value", ["Some", "true"])
def test_a_dry_run_is_all_or_nothing(kube, value):
    """Another value is refused."""
    answer = kube.client.post(kube.models, json=kube.model("phi"), params={"dryRun": value})
    assert answer.status_code in (400, 422)
    assert kube.client.get(f"{kube.models}/phi").status_code == 404
