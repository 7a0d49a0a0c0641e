"""All pages as one router under `/ui`."""

from __future__ import annotations

from litestar import Router
from litestar.di import Provide

from hub.http.problems import answer_error as answer_problem
from hub.web import (
    pages_alerts,
    pages_cameras,
    pages_captures,
    pages_cells,
    pages_compare,
    pages_datasets,
    pages_events,
    pages_failures,
    pages_growth,
    pages_home,
    pages_jobs,
    pages_label,
    pages_models,
    pages_outcomes,
    pages_repos,
    pages_timeline,
    pages_tools,
    pages_uploads,
)
from hub.web.dependencies import web_of
from hub.web.guards import SessionMiddleware, same_origin
from hub.web.problems import answer_error


def routers() -> list[Router]:
    """The pages, and the hub's bare address, which leads to them."""
    pages = Router(
        "/ui",
        route_handlers=[
            pages_home.no_such_page,
            pages_home.static_file,
            pages_home.sign_in_page,
            pages_home.sign_in,
            pages_home.sign_out,
            pages_home.overview,
            pages_home.settings,
            pages_home.make_token,
            pages_home.revoke_token,
            pages_datasets.list_datasets,
            pages_uploads.new_upload,
            pages_datasets.browse,
            pages_datasets.wall,
            pages_datasets.picture,
            pages_datasets.one_image,
            pages_datasets.check,
            pages_datasets.start_check,
            pages_growth.contribution,
            pages_growth.change_offer,
            pages_growth.growths,
            pages_growth.one_growth,
            pages_growth.stop_growth,
            pages_growth.decide_offer,
            pages_jobs.list_jobs,
            pages_jobs.new_finetune,
            pages_jobs.start_finetune,
            pages_jobs.one_job,
            pages_jobs.log_part,
            pages_jobs.job_events,
            pages_jobs.cancel_job,
            pages_jobs.retry_job,
            pages_cells.list_cells,
            pages_cells.create_cell,
            pages_cells.one_cell,
            pages_cells.say_classes,
            pages_cells.rollback,
            pages_cameras.cameras,
            pages_timeline.timeline,
            pages_timeline.set_policy,
            pages_timeline.act,
            pages_timeline.stop,
            pages_models.one_model,
            pages_models.report_page,
            pages_models.promote,
            pages_compare.compare,
            pages_outcomes.outcomes,
            pages_repos.one_repo,
            pages_label.queues,
            pages_label.editor,
            pages_tools.tools,
            pages_tools.hand,
            pages_alerts.alerts,
            pages_alerts.picture,
            pages_alerts.acknowledge,
            pages_alerts.close,
            pages_failures.failures,
            pages_failures.one_failure,
            pages_failures.correct,
            pages_captures.captures,
            pages_captures.one_capture,
            pages_captures.image,
            pages_events.events,
            pages_events.event,
            pages_events.picture,
            pages_events.change,
            pages_events.merge,
            pages_events.split,
        ],
        dependencies={"web": Provide(web_of, sync_to_thread=False)},
        guards=[same_origin],
        middleware=[SessionMiddleware],
        exception_handlers={Exception: answer_error},
        include_in_schema=False,
    )
    # What a script asks: the same guards, and refusals that a script can read.
    uploads = Router(
        "/ui/uploads",
        route_handlers=[
            pages_uploads.start_upload,
            pages_uploads.get_upload,
            pages_uploads.abort_upload,
            pages_uploads.put_file,
            pages_uploads.commit_upload,
        ],
        dependencies={"web": Provide(web_of, sync_to_thread=False)},
        guards=[same_origin, pages_uploads.proven],
        middleware=[SessionMiddleware],
        exception_handlers={Exception: answer_problem},
        include_in_schema=False,
    )
    labels = Router(
        "/ui/label",
        route_handlers=pages_label.SCRIPT_ROUTES,
        dependencies={"web": Provide(web_of, sync_to_thread=False)},
        guards=[same_origin, pages_uploads.proven_if_changing],
        middleware=[SessionMiddleware],
        exception_handlers={Exception: answer_problem},
        include_in_schema=False,
    )
    return [pages, uploads, labels, Router("/", route_handlers=[pages_home.root], include_in_schema=False)]
