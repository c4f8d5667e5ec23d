// The architectures of the front, each drawn as its stack.

const CARDS_FIRST = 12;
const widest = Math.max(1, ...front.flatMap(p => ((p.detail || {}).stack || {parts: []}).parts.map(q => q.params)));
// Like layers in a row become one block with their number.
function runs(stack) {
    const layers = [];
    for (const p of stack.parts.filter(q => q.layer >= 0)) {
        if (!layers.length || layers[layers.length - 1].index !== p.layer) layers.push({index: p.layer, parts: []});
        layers[layers.length - 1].parts.push(p);
    }
    const out = [];
    for (const l of layers) {
        const key = l.parts.map(p => p.kind + p.type + p.text).join('/'), last = out[out.length - 1];
        if (last && last.key === key) last.n++;
        else out.push({key, n: 1, first: l.index, parts: l.parts});
    }
    return out;
}
function block(part, cls, name, more) {
    const share = Math.max(0.02, part.params / widest);
    const title = group(part.params) + ' parameters, ' + scaled(part.flops, '') + '\u202fFLOP a token, state ' + scaled(part.state, 'B');
    return el('div', {class: 'block ' + cls, title},
              el('span', {class: 'track'}, part.params ? el('span', {class: 'bar', style: 'width:' + px(share * 100) + '%'}) : null),
              el('span', {class: 'what'}, el('b', null, name), more ? el('span', {class: 'dim'}, more) : null),
              el('span', {class: 'count'}, part.params ? scaled(part.params, '') : '–'));
}
// "attention heads 4 kv_heads 2 no rope" without its first word: "heads 4 · kv_heads 2 · no rope".
function knobsOf(part) {
    const words = part.text.slice(part.type.length).match(/no \S+|\S+ [\d.]+|\S+/g) || [];
    return words.map(t => t.replace(/ /g, '\u00a0')).join('\u00a0· ');
}
function drawStack(stack) {
    const more = {embedding: group(stack.vocab) + '\u00a0×\u00a0' + stack.width, head: stack.tied ? 'shares the embedding' : ''};
    const own = kind => block(stack.parts.find(p => p.kind === kind), 'edge', kind, more[kind]);
    const layer = r => {
        const name = r.n > 1 ? r.first + '–' + (r.first + r.n - 1) : String(r.first);
        return el('div', {class: 'layer', 'aria-label': 'layer ' + name},
                  el('span', {class: 'index', title: r.n > 1 ? r.n + ' like layers; each is as drawn' : null}, name),
                  r.parts.map(p => block(p, p.kind, p.type, knobsOf(p))));
    };
    return el('div', {class: 'stack'}, own('embedding'), runs(stack).map(layer), own('norm'), own('head'));
}
function knobTable(knobs) {
    const entries = Object.entries(knobs || {}), row = (k, v) => el('tr', null, el('th', null, k), el('td', null, v));
    return el('table', {class: 'facts'}, entries.slice(0, 40).map(([k, v]) => row(k, Array.isArray(v) ? v.map(valueText).join(' ') : valueText(v))),
              entries.length > 40 && row('…', 'and ' + (entries.length - 40) + ' more'));
}
function metricRows(p, name) {
    const m = (p.detail.metrics || {})[name] || {median: p.metrics[name]}, iv = p.intervals[name];
    const row = el('tr', null, el('th', null, name), el('td', null, withUnit(metricText(name, m.median))));
    const more = [iv && metricText(name, iv[0], true) + ' – ' + metricText(name, iv[1], true) + (m.n > 1 ? ', n\u202f=\u202f' + m.n : ''),
                  Array.isArray(m.ratio) && known(m.ratio[0]) && brief(m.ratio[0]) + ' of the anchor',
                  m.converged === false && 'not converged', m.disturbed > 0 && brief(100 * m.disturbed) + '\u202f% of samples disturbed'];
    return [row, ...more.filter(Boolean).map(text => el('tr', {class: 'interval'}, el('td', {colspan: 2}, text)))];
}
// What the whole stack keeps of a sequence of the training context, where no metric says it.
function stateRow(stack, names) {
    const name = 'state_bytes@' + stack.context;
    if (names.includes(name)) return [];
    return [el('tr', null, el('th', null, name), el('td', null, withUnit(scaled(stack.parts.reduce((a, p) => a + p.state, 0), 'B'))))];
}
function card(p) {
    const d = p.detail, goals = objectives.map(o => o.metric), onPaper = n => (metricInfo[n] || {}).source === 'paper';
    const names = Object.keys(p.metrics).sort((a, b) => goals.includes(b) - goals.includes(a) || goals.indexOf(a) - goals.indexOf(b));
    const paper = names.filter(n => onPaper(n) && (n !== 'active_params' || p.metrics[n] !== p.metrics.params)), rest = names.filter(n => !onPaper(n));
    const facts = (title, list, more) => (list.length > 0 || more) && el('table', {class: 'facts'}, el('caption', null, title),
                                                                      list.flatMap(n => metricRows(p, n)), more);
    const {op, parents = []} = d.origin || {};
    const where = [known(p.proposal) && 'proposal ' + (p.proposal + 1), op && op + (parents.length ? ' of ' + parents.join(' and ') : ''),
                   known(d.busy_s) && duration(d.busy_s) + ' at work', known(d.joules) && scaled(d.joules, 'J')];
    const commands = ['taut show ' + p.trial + data.where];
    if (d.stack) commands.push('taut export ' + p.trial + ' --format safetensors -o trial-' + p.trial + data.where);
    const key = o => el('div', null, el('b', null, withUnit(metricText(o.metric, p.metrics[o.metric]))), el('span', {class: 'dim'}, o.metric));
    return el('article', {class: 'card', id: 'trial-' + p.trial, 'data-trial': p.trial},
        el('header', null, el('h3', null, 'Trial ' + p.trial), el('span', {class: 'dim id'}, p.arch.slice(0, 8)),
           el('button', {type: 'button', class: 'pick', onclick: () => choose(p.trial)}, 'mark')),
        el('div', {class: 'key'}, objectives.map(key)),
        el('div', {class: 'body'}, d.stack ? drawStack(d.stack) : knobTable(d.knobs),
           el('div', null, facts('On paper', paper, d.stack && stateRow(d.stack, names)), facts(d.stack ? 'Measured' : 'Reported', rest))),
        el('p', {class: 'dim small'}, where.filter(Boolean).join(' · ')),
        el('pre', null, commands.join('\n')));
}
// count of list, evenly spread, both ends among them.
function spread(list, count) {
    if (list.length <= count) return list;
    return Array.from({length: count}, (v, i) => list[Math.round(i * (list.length - 1) / (count - 1))]);
}
let showAllCards = null;
function cards(parent) {
    const all = front.filter(p => p.detail), first = spread(all, CARDS_FIRST), grid = el('div', {class: 'cards'}, first.map(card));
    parent.append(grid);
    const mark = trial => { for (const c of grid.children) c.classList.toggle('chosen', Number(c.dataset.trial) === trial); };
    listeners.push(mark);
    if (first.length === all.length) return;
    const more = el('button', {type: 'button', class: 'more'}, 'Show all ' + all.length);
    showAllCards = () => {
        grid.replaceChildren(...all.map(card));
        mark(chosen);
        more.remove();
        showAllCards = null;
    };
    more.addEventListener('click', showAllCards);
    window.addEventListener('beforeprint', () => { if (showAllCards && all.length <= 60) showAllCards(); });
    parent.append(more);
}
function showCards() {
    cards(section('architectures', layered ? 'The front’s architectures' : 'The front’s candidates', layered &&
        'From the input at the top to the head at the bottom. A block is as wide as it has parameters, on one scale for all cards; ' +
        'a norm counts with the block behind it.'));
}
