"""The people and services known to an embedded controller's Keystone, and their roles."""

from __future__ import annotations

from dataclasses import dataclass

ADMIN_PROJECT = "admin"
SERVICES_PROJECT = "services"
TENANT_PROJECT = "tenant1"
PROJECTS = (SERVICES_PROJECT, TENANT_PROJECT)  # Keystone's bootstrap makes `admin`
OTHER_DOMAIN = "Other"


@dataclass(frozen=True)
class User:
    """A Keystone user in the domain Default with one role in one project."""

    name: str
    role: str
    project: str


# `admin` itself is made by Keystone's bootstrap. sysinv and mtce hold the role admin in another project, as
# on StarlingX: it must count for nothing with the agent.
USERS = (
    User("testuser", "member", TENANT_PROJECT),
    User("testuser2", "member", TENANT_PROJECT),
    User("Upper", "member", TENANT_PROJECT),
    User("sysinv", "admin", SERVICES_PROJECT),
    User("mtce", "admin", SERVICES_PROJECT),
    User("reader", "reader", ADMIN_PROJECT),
    User("operator", "operator", ADMIN_PROJECT),
)
ALL_NAMES = ("admin", *(user.name for user in USERS))


def project_of(name: str) -> str:
    """The project a user's openrc names."""
    return next((user.project for user in USERS if user.name == name), ADMIN_PROJECT)
