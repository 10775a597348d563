/**
 * The conversation as cards: the user's turns by the server's number of the turn, with words that stay and words that may
 * change; the agent's replies with what of them was heard. All text is set as text, never as HTML.
 */

import { labelOf, picture, reading } from "./voice.js";

export class Transcript {
  constructor(log, announce) {
    this.log = log;
    this.announce = announce;
    this.turns = new Map(); // turn_id -> card of the user
    this.replies = new Map(); // turn_id -> card of the agent
    this.typed = []; // cards of typed turns without a number yet
    this.replyTurn = null;
    this.replyItem = null;
  }

  /** The server begins to count anew. */
  restart() {
    for (const map of [this.turns, this.replies]) map.clear();
    this.typed = [];
  }

  /** The conversation goes on behind a gap: what it says of the turn and the reply that were under way. `open`: the user's
   * turn is not over. */
  catchUp(items, open) {
    const said = items.filter(({ type }) => type === "message");
    const last = (role) => said.filter((item) => item.role === role).at(-1);
    const words = (item) => item.content.map(({ transcript, text }) => transcript ?? text ?? "").join("");
    const live = [...this.turns.values()].find((card) => card.live);
    const user = last("user");
    if (live !== undefined && !open && user !== undefined) Object.assign(live, { live: false }).committed.textContent = words(user);
    if (live !== undefined && !open) live.tentative.textContent = live.how.textContent = "";
    const reply = last("assistant");
    if (reply === undefined) return;
    if (this.replyItem !== reply.id) this.start(null);
    this.replyItem = reply.id;
    this.reply().committed.textContent = words(reply);
    this.follow();
  }

  note(text) {
    const note = element("p", "note", text);
    this.put(note);
    return note;
  }

  // The user.

  /** A turn was typed. */
  type(text) {
    const card = this.card("you", "You", "typed");
    card.committed.textContent = text;
    this.typed.push(card);
  }

  /** A spoken turn begins. */
  begin(turnId) {
    this.turns.set(turnId, Object.assign(this.card("you", "You", "speaking …"), { live: true }));
  }

  update(turnId, committed, tentative) {
    const card = this.turns.get(turnId);
    if (card === undefined) return;
    card.committed.textContent = committed.trim() + (committed.trim() && tentative.trim() ? " " : "");
    card.tentative.textContent = tentative.trim();
    this.follow();
  }

  /** How the turn sounds so far; the last of them is shown with it. */
  sound(turnId, event) {
    const card = this.turns.get(turnId);
    if (card !== undefined) card.prosody = event;
  }

  /** The turn is over. A turn that never began was typed. */
  end(turnId, text, pEnd, points) {
    const card = this.turns.get(turnId);
    if (!card?.live) {
      const typed = this.typed.shift();
      if (typed !== undefined) this.turns.set(turnId, typed);
      return;
    }
    card.live = false;
    card.committed.textContent = text;
    card.tentative.textContent = "";
    card.how.textContent = `spoken · P(end) ${Math.round(pEnd * 100)} %`;
    card.sounded?.remove();
    if (card.prosody !== undefined) {
      card.sounded = sounded(card.prosody, points);
      card.root.append(card.sounded);
    }
    this.announce(`You: ${text}`);
    this.follow();
  }

  /** The user goes on after all: the card lives again, and a reply to it is void. */
  resume(turnId) {
    const card = this.turns.get(turnId);
    if (card === undefined || card.live) return;
    card.live = true;
    card.how.textContent = "speaking …";
    this.replies.get(turnId)?.root.remove();
    this.replies.delete(turnId);
  }

  /** It was no turn. */
  drop(turnId) {
    this.turns.get(turnId)?.root.remove();
    this.turns.delete(turnId);
  }

  // The agent.

  /** The reply to a turn begins. */
  start(turnId) {
    this.replyTurn = turnId;
    this.replies.delete(turnId);
  }

  /** More text of the reply. */
  say(text, itemId) {
    this.replyItem = itemId;
    this.reply().committed.textContent += text;
    this.follow();
  }

  /** The card of the reply that is being given. */
  reply() {
    let card = this.replies.get(this.replyTurn);
    if (card === undefined) {
      card = this.card("agent", "Agent", "");
      this.replies.set(this.replyTurn, card);
    }
    return card;
  }

  /** When it came. */
  time(text) {
    this.reply().how.textContent = text;
  }

  /** The reply is over; what was not heard of it is struck out. */
  finish(turnId, text, heard, interrupted) {
    const card = this.replies.get(turnId);
    if (card === undefined) return;
    if (interrupted) {
      const rest = text.startsWith(heard) ? text.slice(heard.length) : "";
      card.committed.textContent = heard && `${heard.trimEnd()} `;
      card.tentative.className = "unheard";
      card.tentative.textContent = rest.trim();
      card.who.append(element("span", "", "cut off: you did not hear the rest"));
    }
    this.announce(`Agent: ${heard || text}`);
    this.follow();
  }

  /** A call waits for the user's yes or no. */
  ask(question, decide) {
    const note = this.note(question);
    const choice = element("span", "choice", "");
    for (const [text, accepted] of [["Yes", true], ["No", false]]) {
      const button = element("button", "", text);
      button.type = "button";
      button.onclick = () => decide(accepted);
      choice.append(button);
    }
    note.append(choice);
    return choice;
  }

  card(side, name, how) {
    const card = { root: element("article", `turn ${side}`, ""), who: element("p", "who", "") };
    card.how = element("span", "", how);
    card.committed = element("span", "", "");
    card.tentative = element("span", "tentative", "");
    const words = element("p", "words", "");
    words.append(card.committed, card.tentative);
    card.who.append(element("b", "", name), card.how);
    card.root.append(card.who, words);
    this.put(card.root);
    return card;
  }

  put(node) {
    this.log.querySelector("#welcome")?.remove();
    this.log.append(node);
    this.follow();
  }

  /** Keep the end in sight, unless the user has scrolled back. */
  follow() {
    const { log } = this;
    if (log.scrollHeight - log.scrollTop - log.clientHeight < 260) log.scrollTop = log.scrollHeight;
  }
}

function sounded(prosody, points) {
  const line = element("p", "sounded", "");
  const found = [
    ["pitch", reading("pitch", prosody.pitch_hz)],
    ["energy", reading("energy", prosody.energy_db)],
    ["rate", reading("rate", prosody.words_per_minute)],
  ].filter(([, value]) => value !== null);
  const words = found.map(([name, { word, text }]) => `${name} ${word}, ${text}`);
  if (points.some(({ hz }) => hz !== null)) line.append(picture(points, words.join("; ")));
  const label = labelOf(prosody);
  const tone = element("span", "", "sounds like ");
  tone.append(element("b", "", label.word), ` (${label.text})`);
  line.append(tone);
  for (const [name, { word }] of found) {
    const part = element("span", "", `${name} `);
    part.append(element("b", "", word));
    line.append(part);
  }
  return line;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
