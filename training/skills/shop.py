"""A shop's order desk: where an order is, cancelling and refunding it, and a person on request. Order
numbers have four digits and are said one by one; held out are numbers, so an answer shows that all four
were heard. A request without a number is asked for it, and the next turn gives it. In training, results
are drawn freely, so that a reply can only be learned from the result; elsewhere they are those of the demo
tools."""

from typing import Any

from ...models.demo_tools import Call, demo_result
from .draw import Draw, tool_turn
from .numbers import number_words, spoken_order
from .turns import Turn
from .wordings import REQUEST, Fillers, together, wordings

NAME = "shop"
ASK_REPLY = "Okay, what is the order number?"
ORDERS = Fillers("order", [(f"{number:04d}",) for number in range(10_000)])

STATUS_WAYS = wordings(
    ("where is order {order}", "where is my order {order}", "where is order number {order}",
     "what is the status of order {order}", "what happened to order {order}", "can you check order {order}",
     "please check order number {order}", "check my order {order}", "track order {order}",
     "please track order {order}", "has order {order} been shipped", "has my order {order} arrived",
     "when does order {order} arrive", "when does order number {order} come", "status of order {order}",
     "where is my package the order number is {order}", "i am waiting for order {order}",
     "my order number is {order} where is it", "hello where is order {order}",
     "do you know where order {order} is", "i want to know where order {order} is",
     "what about order {order}"),
    ("what is the status of my order {order}", "please track order number {order}",
     "when does my order {order} arrive", "has order number {order} been shipped",
     "can you tell me where order {order} is"))
CANCEL_WAYS = together(
    wordings(("cancel order {order}", "cancel order number {order}", "cancel my order {order}",
              "stop order {order}"),
             ("cancel my order number {order}",), REQUEST),
    wordings(("i want to cancel order {order}", "i need to cancel order {order}",
              "i don't want order {order} anymore", "i don't need order {order}",
              "can i cancel order {order}", "i would like to cancel order {order}"),
             ("i want to cancel my order {order}", "i don't need order {order} anymore")))
REFUND_WAYS = together(
    wordings(("refund order {order}", "refund order number {order}", "give me a refund for order {order}",
              "give me my money back for order {order}"), ("refund my order {order}",), REQUEST),
    wordings(("i want my money back for order {order}", "i want a refund for order {order}",
              "i need a refund for order {order}", "can i get a refund for order {order}",
              "i would like a refund for order {order}"),
             ("i need my money back for order {order}", "i would like my money back for order {order}")))
PERSON_WAYS = wordings(
    ("i want to speak to a person", "can i speak to a person", "let me talk to a person",
     "can i talk to someone", "i want to talk to a human", "give me a real person",
     "speak to a person please", "get me a person please", "i need to talk to a person",
     "connect me to a person", "can i speak to a human please", "a person please",
     "i would like to speak to someone", "is there a person i can talk to", "let me speak to your boss"),
    ("can i talk to a human", "let me speak to someone", "connect me to a human please"))
AND_STATUS_WAYS = wordings(
    ("and order {order}", "and what about order {order}", "and where is order {order}",
     "and what about {order}", "and number {order}",
     "and the order {order}"), ("and what about number {order}",))
IT_WAYS = {
    "cancel_order": wordings(
        ("cancel it", "please cancel it", "cancel that order", "then cancel it", "can you cancel it",
         "okay cancel it please", "i want to cancel it", "i don't want it anymore"),
        ("then please cancel it", "can you cancel that order")),
    "refund_order": wordings(
        ("i want a refund", "i want my money back", "refund it", "please refund it", "then i want a refund",
         "can i get a refund", "can i get my money back"),
        ("then i want my money back", "can you refund it")),
}
OPEN_WAYS = {
    "order_status": wordings(
        ("where is my order", "where is my package", "i want to know where my order is",
         "can you check my order", "when does my package arrive", "i have a question about my order",
         "please check my order", "track my package",
         "has my order been shipped"), ("when does my order arrive", "can you track my order")),
    "cancel_order": wordings(
        ("i want to cancel my order", "cancel my order", "please cancel my order",
         "i need to cancel an order", "can you cancel my order",
         "i would like to cancel an order"), ("i would like to cancel my order",)),
    "refund_order": wordings(
        ("i need a refund", "i would like a refund", "i want a refund for my order",
         "can you refund my order",
         "i want my money back for my order"), ("i would like a refund for my order",)),
}
NUMBER_WAYS = wordings(
    ("{order}", "{order}", "{order}", "it is {order}", "the number is {order}", "order {order}",
     "order number {order}", "it's {order}", "my order number is {order}", "number {order}",
     "yes it is {order}", "okay it is {order}"),
    ("the order number is {order}", "yes the number is {order}"))


def start(draw: Draw) -> Turn:
    """A request about an order, or for a person."""
    kind = draw.rng.random()
    draw.open_tool = ""
    if kind > 0.9 and draw.split != "fillers":
        template = draw.words(PERSON_WAYS)
        draw.order = ""
        return tool_turn(draw, NAME, template, template, Call("transfer_to_person", {"reason": "request"}),
                         "Okay, I am getting a person for you.")
    tool = "order_status" if kind < 0.5 else "cancel_order" if kind < 0.7 else "refund_order"
    if draw.split != "fillers" and not draw.spoke_of(NAME) and draw.chance(0.25):
        draw.order, draw.open_tool = "", tool
        template = draw.words(IT_WAYS[tool] if tool in IT_WAYS and draw.chance(0.3) else OPEN_WAYS[tool])
        return Turn(template, ASK_REPLY, NAME, template)
    _name_order(draw)
    ways = {"order_status": STATUS_WAYS, "cancel_order": CANCEL_WAYS, "refund_order": REFUND_WAYS}[tool]
    return _turn(draw, tool, draw.words(ways))


def follow(draw: Draw) -> Turn | None:
    """The number asked for; another order; cancelling or refunding the last. None without an order."""
    if draw.open_tool:
        tool, draw.open_tool = draw.open_tool, ""
        _name_order(draw)
        return _turn(draw, tool, draw.words(NUMBER_WAYS))
    if not draw.order:
        return None
    kind = draw.rng.random()
    if kind < 0.4:
        _name_order(draw)
        return _turn(draw, "order_status", draw.words(AND_STATUS_WAYS))
    tool = "cancel_order" if kind < 0.7 else "refund_order"
    return _turn(draw, tool, draw.words(IT_WAYS[tool]))


def _name_order(draw: Draw) -> None:
    (draw.order,) = draw.fill(ORDERS)
    draw.answered_as = f"{draw.rng.randrange(10_000):04d}" if draw.split == "train" else draw.order


def _turn(draw: Draw, tool: str, template: str) -> Turn:
    call = Call(tool, {"order": draw.order})
    result = demo_result(Call(tool, {"order": draw.answered_as}))
    user = template.replace("{order}",
                            spoken_order(draw.rng, draw.order)) if "{order}" in template else template
    return Turn(user, order_reply(tool, result), NAME, template, call=call, result=result,
                filler=ORDERS.mark(draw.split, (draw.order,)))


def order_reply(tool: str, result: dict[str, Any]) -> str:
    """What is said about a tool's result; every status has its own sentence."""
    status, day = str(result.get("status")), str(result.get("day", "")).capitalize()
    if status == "unknown":
        return "Sorry, I can't find that order."
    if tool == "order_status":
        return {
            "packed": "It is packed and leaves soon.", "shipped": f"It is on its way and arrives on {day}.",
            "delivered": f"It was delivered on {day}.", "late": f"Sorry, it is late and arrives on {day}.",
            "cancelled": "That order was cancelled.",
        }[status]
    if tool == "cancel_order":
        if result["ok"]:
            return "Okay, I cancelled that order."
        return {
            "shipped": "Sorry, it was already shipped.", "delivered": "Sorry, it was already delivered.",
            "cancelled": "It was already cancelled.",
        }[status]
    if result["ok"]:
        return f"Okay, your money is back in {number_words(int(result['days']))} days."
    if status == "cancelled":
        return "It was cancelled, so there is nothing to pay."
    return "Sorry, I can only refund an order that has arrived."
