"""The pages in a real Chromium, drawn by a real daemon that watches the pretend Ultravox.

Slow (a minute or two), so marked `browser`: `make test-browser`.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import urllib.request

import pytest
from conftest import states
from playwright.sync_api import expect
from pretend_site import CHARACTERS, Site, eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

ALL = (
    "last-minute-offer",
    "city-north",
    "delivery-slots",
    "price-change",
    CHARACTERS,
    "spring-renewals",
    "flaky-answers",
    "evening-survey",
    "loyalty-thanks",
)
PHONE = {"width": 375, "height": 812, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


def names(page):
    return page.locator("table.batches tbody th a").all_inner_texts()


def row(page, name):
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


# The first view


def test_the_worst_stands_first_and_every_batch_has_its_bar(site, visit):
    page = visit(site.url)
    shown = names(page)
    assert set(shown) == set(ALL)
    assert shown[:3] == ["last-minute-offer", "city-north", "delivery-slots"]
    assert shown[-2:] == ["evening-survey", "loyalty-thanks"]
    bar = row(page, "price-change").get_by_role("progressbar")
    expect(bar).to_have_accessible_name(re.compile(r"price-change: \d+ of 500 done"))
    assert bar.evaluate("bar => bar.value") == pytest.approx(states(site)["price-change"]["completion_ratio"])
    expect(row(page, "city-north")).to_contain_text("stalled")
    expect(row(page, "last-minute-offer")).to_contain_text(
        re.compile(r"late, about [\d,]+ calls will be missed")
    )
    expect(row(page, "flaky-answers")).to_contain_text("Ultravox' answer makes no sense")


def test_tiles_alerts_accounts_receivers_and_what_was_told_are_on_it(site, visit):
    page = visit(site.url)
    tiles = page.get_by_role("navigation", name="Batches by state")
    expect(tiles).to_contain_text(re.compile(r"9\s*all"))
    expect(tiles).to_contain_text(re.compile(r"1\s*stalled"))
    fires = page.get_by_role("region", name="Firing alerts")
    expect(fires).to_contain_text("critical BatchOverdue")
    expect(fires).to_contain_text("Cause: ")
    expect(page.get_by_role("region", name="Accounts")).to_contain_text("agency answers")
    expect(page.get_by_role("region", name="Receivers")).to_contain_text("crm nothing waits")
    expect(page.get_by_role("region", name="Notifications")).to_contain_text("BatchOverdue fires")
    expect(page.get_by_role("contentinfo")).to_contain_text(
        re.compile(r"Batch Monitor \d+\.\d+\.\d+, up for \d+")
    )
    assert re.match(r"\(\d+\) Ultravox Batch Monitor", page.title())


def test_what_others_wrote_stays_text(site, visit):
    page = visit(site.url)
    page.get_by_role("link", name=CHARACTERS).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(CHARACTERS)
    assert CHARACTERS in page.title()
    assert page.locator("main img").count() == 0


def test_without_a_script_the_first_view_is_whole_and_can_be_searched(site, visit):
    page = visit(site.url, java_script_enabled=False)
    assert set(names(page)) == set(ALL)
    assert re.search(r"closed \d+ min ago", page.locator("table.batches").inner_text())
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d UTC", page.locator("main").inner_text())
    page.get_by_label("Search").fill("city")
    page.get_by_role("button", name="Show").click()
    assert names(page) == ["city-north"]
    page.get_by_role("link", name="city-north").first.click()
    assert page.get_by_role("heading", level=1).inner_text() == "city-north"
    assert page.get_by_role("img").first.is_visible()


def test_times_are_the_viewers_with_utc_on_hover(site, visit):
    page = visit(f"{site.url}batches/{site.ids['evening-survey']}", timezone_id="Asia/Kolkata")
    opens = states(site)["evening-survey"]["window_start"]
    at = page.locator(f"dd time[datetime='{opens}']").first
    assert at.get_attribute("title") == f"{opens[:10]} {opens[11:19]} UTC"
    hours, minutes = int(opens[11:13]), int(opens[14:16])
    there = (hours * 60 + minutes + 330) % 1440
    assert at.inner_text().endswith(f"{there // 60:02}:{there % 60:02}")
    assert "UTC" not in page.locator("main").inner_text()


# Filter, order, address


def test_searching_narrows_the_table_and_is_kept_in_the_address(site, visit):
    page = visit(site.url)
    page.get_by_label("Search").press_sequentially("NORTH")
    expect(page.locator("table.batches tbody tr")).to_have_count(1)
    assert names(page) == ["city-north"]
    assert page.url.endswith("?q=NORTH")
    page.reload()
    assert names(page) == ["city-north"]
    assert page.get_by_label("Search").input_value() == "NORTH"


def test_state_account_order_and_firing_can_be_chosen(site, visit):
    page = visit(site.url)
    page.get_by_role("combobox", name="State").select_option("paused")
    expect(page.locator("table.batches tbody tr")).to_have_count(1)
    assert page.url.endswith("?state=paused")
    page.get_by_role("combobox", name="State").select_option("")
    page.get_by_role("combobox", name="Account").select_option("agency")
    expect(page.locator("table.batches tbody tr")).to_have_count(2)
    page.get_by_role("combobox", name="Account").select_option("")
    page.get_by_role("combobox", name="Order").select_option("name")
    expect(page.locator("table.batches tbody th a").first).to_have_text(CHARACTERS)
    assert names(page) == sorted(ALL)
    page.get_by_label("firing only").check()
    expect(row(page, "price-change")).to_have_count(0)
    assert "firing=any" in page.url


def test_a_tile_shows_its_batches_and_a_heading_sorts(site, visit):
    page = visit(site.url)
    page.get_by_role("link", name="1 stalled").click()
    assert names(page) == ["city-north"]
    page.get_by_role("link", name="all", exact=False).first.click()
    page.get_by_role("columnheader", name="Progress").get_by_role("link").click()
    assert names(page)[-1] == "loyalty-thanks"
    expect(page.get_by_role("columnheader", name="Progress")).to_have_attribute("aria-sort", "ascending")
    page.get_by_role("columnheader", name="Progress").get_by_role("link").click()
    assert names(page)[0] == "loyalty-thanks"
    expect(page.get_by_role("columnheader", name="Progress")).to_have_attribute("aria-sort", "descending")


def test_an_address_without_sense_says_so_and_how_to_go_on(site, visit):
    page = visit(f"{site.url}?state=stale", may_fail=["400"])
    expect(page.get_by_role("alert").first).to_contain_text("state=stale: there is no such state")
    page.get_by_role("link", name="Show all batches").click()
    assert set(names(page)) == set(ALL)


def test_it_can_be_used_from_the_keyboard(site, visit):
    page = visit(site.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("spring/")  # where one types, a slash is a slash
    assert page.get_by_label("Search").input_value() == "spring/"
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    expect(page.locator("table.batches tbody tr")).to_have_count(1)
    page.get_by_role("link", name="spring-renewals").first.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("spring-renewals")


# One batch


def test_a_batch_has_its_curve_its_outcomes_its_reasons_and_its_past(site, visit):
    page = visit(site.url)
    page.get_by_role("link", name="last-minute-offer").first.click()
    expect(page.get_by_role("img", name=re.compile(r"[\d,]+ of 90,000 done; .* late"))).to_be_visible()
    assert page.locator("svg.chart polyline").get_attribute("points").count(",") >= 3
    expect(page.locator("svg.chart .closes")).to_be_attached()
    expect(page.locator("svg.chart .forecast")).to_be_attached()
    expect(page.get_by_role("region", name="Outcomes")).to_contain_text(re.compile(r"[\d,]+ succeeded"))
    with urllib.request.urlopen(
        f"{site.url}api/v1/explain?batch_id={site.ids['last-minute-offer']}", timeout=10
    ) as answer:
        told = json.load(answer)["data"]["explanations"]
    why = page.get_by_role("region", name="Why each alert fires or does not")
    assert why.locator("tbody th").all_inner_texts() == [one["alertname"] for one in told]
    expect(why.get_by_role("row", name="BatchWindowAtRisk")).to_contain_text("firing")
    expect(why.get_by_role("row", name="BatchGone")).to_contain_text(
        "0 answers in a row that it is not found"
    )
    past = page.get_by_role("region", name="What happened")
    expect(past).to_contain_text("BatchWindowAtRisk fires, to crm")
    expect(past).to_contain_text("delivered")
    expect(past.get_by_role("listitem").last).to_contain_text("running")
    page.get_by_role("link", name="All batches").click()
    assert set(names(page)) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_batch_has_a_page(site, visit, name):
    page = visit(f"{site.url}batches/{site.ids['odd' if name is CHARACTERS else name]}")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def test_a_batch_that_is_not_watched_has_none_and_that_is_said(site, visit):
    page = visit(f"{site.url}batches/ffffffff", may_fail=["404"])
    expect(page.get_by_role("main")).to_contain_text("No watched batch has the id ffffffff")


# Fresh and old


def test_it_keeps_itself_fresh_without_a_flicker(site, visit):
    page = visit(site.url)
    parts = "document.querySelectorAll('.batches *, .tiles *, h2, input')"
    page.evaluate(f"{parts}.forEach(one => {{ one.marked = true }})")
    page.evaluate("window.stays = true")
    page.get_by_label("Search").focus()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#batches'))")
    page.evaluate("scrollTo(0, 200)")
    before = row(page, "spring-renewals").inner_text()
    clock = page.locator("#fresh").inner_text()
    page.wait_for_function("text => document.querySelector('#fresh').innerText !== text", arg=clock)
    page.wait_for_function(
        "([name, text]) => [...document.querySelectorAll('tbody tr')].find(one => one.innerText.includes(name)).innerText !== text",
        arg=["spring-renewals", before],
    )
    assert page.evaluate("window.stays")
    made_anew = page.evaluate(f"[...{parts}].filter(one => !one.marked).map(one => one.outerHTML)")
    assert all(re.match(r"<(small|time)", one) for one in made_anew), made_anew  # reasons that come and go
    assert page.evaluate("document.activeElement.name") == "q"
    assert page.evaluate("String(getSelection())") == "Batches"
    assert page.evaluate("scrollY") == 200


def test_what_is_being_typed_is_not_taken_away(site, visit):
    page = visit(site.url)
    page.evaluate("typing = null; choose = () => {}")  # nothing is asked for yet
    page.get_by_label("Search").fill("half a na")
    clock = page.locator("#fresh").inner_text()
    page.wait_for_function("text => document.querySelector('#fresh').innerText !== text", arg=clock)
    assert page.get_by_label("Search").input_value() == "half a na"


def test_a_row_that_moves_keeps_the_focus(site, visit):
    page = visit(site.url)
    page.get_by_role(
        "link", name="loyalty-thanks"
    ).first.focus()  # the last row, which is about to be the first
    page.evaluate("history.replaceState(null, '', '?sort=-progress'); refresh()")
    expect(page.locator("table.batches tbody th a").first).to_have_text("loyalty-thanks")
    assert page.evaluate("document.activeElement.textContent") == "loyalty-thanks"


def test_what_something_else_puts_into_the_page_does_not_have_it_loaded_again(site, visit):
    page = visit(site.url, may_fail=["other.js", "404"])
    page.evaluate("window.stays = true")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {src: 'static/other.js'}))"
    )
    clock = page.locator("#fresh").inner_text()
    page.wait_for_function("text => document.querySelector('#fresh').innerText !== text", arg=clock)
    assert page.evaluate("window.stays")


def test_when_another_version_answers_the_page_is_loaded_anew_and_once(site, visit):
    page = visit(site.url)
    older = "window.stays = true; document.documentElement.dataset.version = 'older'"
    page.evaluate(older)
    page.wait_for_function("() => !window.stays")
    page.evaluate(older)  # as if the older one had answered again
    clock = page.locator("#fresh").inner_text()
    page.wait_for_function("text => document.querySelector('#fresh').innerText !== text", arg=clock)
    assert page.evaluate("window.stays")


def test_searching_among_what_is_at_risk_stays_there(site, visit):
    page = visit(f"{site.url}?firing=BatchWindowAtRisk")
    page.get_by_label("Search").press_sequentially("a")
    expect(page).to_have_url(re.compile(r"q=a&firing=BatchWindowAtRisk$"))
    expect(page.locator("table.batches tbody tr")).to_have_count(1)


def test_a_daemon_that_hangs_is_told(tmp_path, visit):
    mine = Site(
        tmp_path,
        "accounts: [{name: main, agents: [{name: a, batches: [{name: only, calls: 500, pace: 60/h}]}]}]",
    )
    mine.start()
    try:
        page = visit(mine.url)
        mine.suspend_daemon()
        expect(page.locator("#offline")).to_be_visible(timeout=30_000)
        mine.resume_daemon()
        expect(page.locator("#offline")).to_be_hidden(timeout=30_000)
    finally:
        mine.resume_daemon()
        mine.stop()


def test_a_daemon_that_dies_is_told_and_so_is_its_return(tmp_path, visit):
    mine = Site(
        tmp_path,
        "accounts: [{name: main, agents: [{name: a, batches: [{name: only, calls: 500, pace: 60/h}]}]}]",
    )
    mine.start()
    try:
        page = visit(mine.url, may_fail=["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET"])
        expect(page.locator("#offline")).to_be_hidden()
        mine.kill_daemon()
        expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible(timeout=20_000)
        told = page.locator("#offline").inner_text()
        assert re.search(r"What you see is as of \d\d:\d\d:\d\d and may no longer be true", told)
        assert names(page) == ["only"]  # what was known stays
        mine.start_daemon()
        expect(page.locator("#offline")).to_be_hidden(timeout=20_000)
        assert names(page) == ["only"]
    finally:
        mine.stop()


# For everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280}, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize(
    "where", ["", "batches/last-minute-offer", "batches/evening-survey", "?q=nothing-is-like-this"]
)
def test_nothing_keeps_anybody_from_using_it(site, visit, barriers, where, size, scheme):
    path = re.sub(r"(?<=batches/)(.*)", lambda name: site.ids[name[0]], where)
    page = visit(site.url + path, color_scheme=scheme, **size)
    assert barriers(page) == []


def test_dark_is_dark(site, visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visit(site.url, color_scheme="light").evaluate(ground)
    dark = visit(site.url, color_scheme="dark").evaluate(ground)
    assert sum(map(int, re.findall(r"\d+", light))) > 600
    assert sum(map(int, re.findall(r"\d+", dark))) < 150


@pytest.mark.parametrize("where", ["", "batches/last-minute-offer"])
def test_a_phone_needs_no_scrolling_sideways(site, visit, where):
    path = re.sub(r"(?<=batches/)(.*)", lambda name: site.ids[name[0]], where)
    page = visit(site.url + path, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    widest = page.evaluate(
        "Math.max(...[...document.querySelectorAll('main *')].map(one => one.getBoundingClientRect().right))"
    )
    assert widest <= 375


# Many


CROWD = 5000


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A daemon that watches so many batches, found by itself."""
    batches = "\n".join(
        f"          - {{name: batch-{number}, created: -1h, calls: 400, window: {{end: 8h}}, pace: 40/h}}"
        for number in range(CROWD)
    )
    story = f"accounts:\n  - name: main\n    agents:\n      - name: renewals\n        batches:\n{batches}\n"
    made = Site(
        tmp_path_factory.mktemp("crowd"),
        story,
        poll={"interval": "5m", "timeout": "10s"},
        alerts={"stalled": {"after": "15m"}},
    )
    made.start()
    try:
        eventually("all are found", lambda: f"watching {CROWD:,} batches" in head(made.url), within=120)
        yield made
    finally:
        made.stop()


def head(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read(4000).decode()


def test_with_thousands_of_batches_a_page_is_a_page(crowd, visit, capsys):
    page = visit(crowd.url)
    expect(page.locator("table.batches tbody tr")).to_have_count(50)
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text("1 to 50 of 5,000, page 1 of 100")
    page.get_by_role("link", name="Later").click()
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text("51 to 100 of 5,000, page 2 of 100")
    needle = crowd.ids["batch-4321"]
    page.goto(f"{crowd.url}?q={needle}")
    expect(page.locator("table.batches tbody tr")).to_have_count(1)
    paints, weights = [], []
    for _ in range(5):
        page.goto(crowd.url)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]"
        page.wait_for_function(f"() => {paint}")
        paints.append(page.evaluate(f"{paint}.startTime"))
        timing = "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
        weights.append(
            page.evaluate(
                f"{timing}.reduce((sum, one) => [sum[0] + one.encodedBodySize, sum[1] + one.decodedBodySize], [0, 0])"
            )
        )
    sent, whole = weights[0]
    assert whole < 100_000
    with capsys.disabled():
        sys.stdout.write(
            f"\n{CROWD:,} batches: {sent:,} bytes sent, {whole:,} unpacked; "
            f"first paint after {statistics.median(paints):.0f} ms\n"
        )
