// The architectures of the front, each drawn as its stack.

const CARDS_FIRST = 12;
// Like layers in a row become one block with their number.
function runs(stack) {
    const layers = [];
    for (const p of stack.parts.filter(q => q.layer)) {
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
function block(part, widest, cls, name, more) {
    const share = Math.max(0.02, part.params / widest);
    return el('div', {class: 'block ' + cls, title: part.params ? group(part.params) + ' parameters, ' + scaled(part.flops, '') + ' FLOP a token, state ' + scaled(part.state, 'B') : null},
              el('span', {class: 'track'}, part.params ? el('span', {class: 'bar', style: 'width:' + (share * 100).toFixed(1) + '%'}) : null),
              el('span', {class: 'what'}, el('b', null, name), more ? el('span', {class: 'dim'}, more) : null), el('span', {class: 'count'}, part.params ? scaled(part.params, '') : '–'));
}
// "attention heads 4 kv_heads 2 no rope" without its first word: "heads 4 · kv_heads 2 · no rope".
const knobsOf = part => (part.text.slice(part.type.length).match(/no \S+|\S+ [\d.]+|\S+/g) || []).map(t => t.replace(/ /g, '\u00a0')).join('\u00a0· ');
function drawStack(stack, widest) {
    const own = kind => block(stack.parts.find(p => p.kind === kind), widest, 'edge', kind,
                              kind === 'embedding' ? group(stack.vocab) + '\u00a0×\u00a0' + stack.width : kind === 'head' && stack.tied ? 'shares the embedding' : '');
    return el('div', {class: 'stack'}, own('embedding'), runs(stack).map(r => {
        const name = r.n > 1 ? r.first + '–' + (r.first + r.n - 1) : String(r.first);
        return el('div', {class: 'layer', 'aria-label': 'layer ' + name}, el('span', {class: 'index', title: r.n > 1 ? r.n + ' like layers; each is as drawn' : null}, name),
                  r.parts.map(p => block(p, widest, p.kind, p.type, knobsOf(p))));
    }), own('norm'), own('head'));
}
function knobTable(knobs) {
    const entries = Object.entries(knobs || {});
    return el('table', {class: 'facts'}, entries.slice(0, 40).map(([k, v]) => el('tr', null, el('th', null, k), el('td', null, Array.isArray(v) ? v.map(valueText).join(' ') : valueText(v)))),
              entries.length > 40 && el('tr', null, el('th', null, '…'), el('td', null, 'and ' + (entries.length - 40) + ' more')));
}
function metricRows(p, name) {
    const m = (p.detail.metrics || {})[name] || {median: p.metrics[name]}, iv = p.intervals[name];
    const row = el('tr', null, el('th', null, name), el('td', null, withUnit(metricText(name, m.median))));
    if (!iv) return [row];
    return [row, el('tr', {class: 'interval'}, el('td', {colspan: 2}, metricText(name, iv[0], true) + ' – ' + metricText(name, iv[1], true) + (known(m.n) && m.n > 1 ? ', n\u202f=\u202f' + m.n : '')))];
}
const widest = Math.max(1, ...front.filter(p => p.detail && p.detail.stack).flatMap(p => p.detail.stack.parts.map(q => q.params)));
function card(p) {
    const d = p.detail, names = Object.keys(p.metrics), goals = objectives.map(o => o.metric);
    const paper = names.filter(n => (metricInfo[n] || {}).source === 'paper' && (n !== 'active_params' || p.metrics[n] !== p.metrics.params)), rest = names.filter(n => (metricInfo[n] || {}).source !== 'paper');
    rest.sort((a, b) => goals.includes(b) - goals.includes(a) || goals.indexOf(a) - goals.indexOf(b));
    const origin = d.origin && d.origin.op ? d.origin.op + ((d.origin.parents || []).length ? ' of ' + d.origin.parents.join(' and ') : '') : '';
    const commands = ['taut show ' + p.trial + data.where];
    if (d.stack) commands.push('taut export ' + p.trial + ' --format safetensors -o trial-' + p.trial + data.where);
    const box = el('article', {class: 'card', id: 'trial-' + p.trial, 'data-trial': p.trial},
        el('header', null, el('h3', null, 'Trial ' + p.trial), el('span', {class: 'dim id'}, p.arch.slice(0, 8)),
           el('button', {type: 'button', class: 'pick', onclick: () => choose(p.trial)}, 'mark')),
        el('div', {class: 'key'}, objectives.map(o => el('div', null, el('b', null, withUnit(metricText(o.metric, p.metrics[o.metric]))), el('span', {class: 'dim'}, o.metric)))),
        el('div', {class: 'body'}, d.stack ? drawStack(d.stack, widest) : knobTable(d.knobs), el('div', null,
            paper.length > 0 && el('table', {class: 'facts'}, el('caption', null, 'On paper'), paper.flatMap(n => metricRows(p, n))),
            rest.length > 0 && el('table', {class: 'facts'}, el('caption', null, d.stack ? 'Measured' : 'Reported'), rest.flatMap(n => metricRows(p, n))))),
        el('p', {class: 'dim small'}, [known(p.proposal) && 'proposal ' + (p.proposal + 1), origin, known(d.busy_s) && duration(d.busy_s) + ' at work', known(d.joules) && scaled(d.joules, 'J')]
            .filter(Boolean).join(' · ')),
        el('pre', null, commands.join('\n')));
    return box;
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
