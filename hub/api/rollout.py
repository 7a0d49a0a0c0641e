"""Roll-out: which lines are on which stage, the canary's share, trials; and the robots' tokens."""

from __future__ import annotations

from litestar import Controller, delete, get, post, put
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from hub.accounts.minting import require_lifetime
from hub.accounts.tokens import Scope
from hub.client.rollout import RolloutCalls
from hub.errors import UnknownTrialError
from hub.http.access_policy import OPERATOR, PRODUCTION, grouped
from hub.http.auth import identity_of, requires
from hub.http.dependencies import Hub, HubRequest, Text
from hub.http.resources import Resource, register
from hub.schemas import serving as v
from hub.services import Services


class RolloutController(Controller):
    """Who serves a cell's lines, and how that is judged."""

    path = "/rollouts"
    tags = ("rollouts",)

    @get("/{cell:str}", sync_to_thread=True)
    def get_rollout(self, services: Hub, request: HubRequest, cell: Text) -> v.Rollout:
        """Stages, lines, the canary's share and the latest trials of a cell."""
        services.require_production(identity_of(request), cell)
        return _rollout(services, cell)

    @put("/{cell:str}/lines", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def set_lines(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[v.LinesIn]) -> v.Rollout:
        """Say which lines get the station's or the beta variant; all others are on the fleet's."""
        _own(services, request, cell)
        services.production.rollouts.set_lines(cell, data.lines)
        return _rollout(services, cell)

    @put("/{cell:str}/share", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def set_share(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[v.ShareIn]) -> v.Rollout:
        """Give the beta variant to a share of the other lines and robots: the canary."""
        _own(services, request, cell)
        services.production.rollouts.set_share(cell, data.share)
        return _rollout(services, cell)

    @post("/{cell:str}/trials", sync_to_thread=True, guards=[requires(Scope.PROMOTE)])
    def start_trial(self, services: Hub, request: HubRequest, cell: Text, data: JSONBody[v.TrialIn]) -> v.Trial:
        """Judge the variant of a stage by its outcomes from now on; a trial that runs there ends."""
        _own(services, request, cell)
        return services.production.trials.start(cell, data, identity_of(request).name)


class TrialController(Controller):
    """Trials by their ids."""

    path = "/trials"
    tags = ("rollouts",)

    @get("/{trial_id:str}", sync_to_thread=True)
    def get_trial(self, services: Hub, request: HubRequest, trial_id: Text) -> v.Trial:
        """One trial."""
        found = services.production.trials.get(trial_id)
        if not services.privacy.works_in(identity_of(request), found.cell):
            raise UnknownTrialError(f"there is no trial {trial_id!r}")
        return found

    @delete("/{trial_id:str}", sync_to_thread=True, status_code=HTTP_200_OK, guards=[requires(Scope.PROMOTE)])
    def stop_trial(self, services: Hub, request: HubRequest, trial_id: Text) -> v.Trial:
        """End a trial without a verdict. Its record stays."""
        cell = services.production.trials.get(trial_id).cell
        if not services.privacy.works_in(identity_of(request), cell):  # as if it was not there
            raise UnknownTrialError(f"there is no trial {trial_id!r}")
        _own(services, request, cell)
        return services.production.trials.stop(trial_id)


class RobotController(Controller):
    """Robots' tokens: good for asking Triton about their cells and for reporting outcomes, for nothing else."""

    path = "/robots"
    tags = ("robots",)
    guards = (requires(Scope.ADMIN),)

    @get(sync_to_thread=True)
    def list_robots(self, services: Hub) -> list[v.Robot]:
        """All robots, by name."""
        return services.production.robots.all()

    @post(sync_to_thread=True)
    def create_robot(self, services: Hub, request: HubRequest, data: JSONBody[v.RobotIn]) -> v.NewRobot:
        """Make a robot's token. It has no end, so a token that has one makes none."""
        require_lifetime(identity_of(request), None)
        return v.NewRobot(token=services.production.robots.add(data.name, data.cells))

    @delete("/{robot_id:str}", sync_to_thread=True, status_code=HTTP_204_NO_CONTENT)
    def delete_robot(self, services: Hub, robot_id: Text) -> None:
        """End a robot's token; Triton refuses it within a second."""
        services.production.robots.remove(robot_id)


def _own(services: Services, request: HubRequest, cell: str) -> None:
    """Raise unless the cell is of the caller's team."""
    who = identity_of(request)
    who.require_team(services.cells.get(cell).team, f"the cell {cell!r}")
    services.require_production(who, cell)


def _rollout(services: Services, cell: str) -> v.Rollout:
    plan = services.production.rollouts.plan(cell)
    held = {
        stage: None if variant is None else f"{variant.repo.name}@{variant.version}"
        for stage, variant in services.registry.stages.current(cell).items()
    }
    return v.Rollout(
        cell=cell,
        station=held["station"],
        beta=held["beta"],
        fleet=held["fleet"],
        lines=dict(plan.lines),
        beta_share=plan.share,
        routing_version=services.serving_folder.version(),
        trials=services.production.trials.of_cell(cell, limit=20),
        placement=services.serving_folder.placement.of(held),
    )


RESOURCE = register(
    Resource(
        "rollouts",
        [RolloutController, TrialController, RobotController],
        rules=grouped(
            ("/rollouts/{cell}", PRODUCTION, "GET, PUT /lines, PUT /share, POST /trials"),
            ("/trials/{trial_id}", PRODUCTION, "GET, DELETE"),
            ("/robots", OPERATOR, "GET, POST, DELETE /{robot_id}"),
        ),
        calls=RolloutCalls,
    )
)
