// The page from top to bottom.

const job = data.job, spec = job.job || {}, layered = (job.space || {}).type === 'lm', progress = data.progress, points = progress.points;
const ok = (job.trials || {}).ok || 0, failedCount = data.failed.of, device = data.devices.find(d => d.id === (job.target || {}).device) || data.devices[0];
const dates = ms => new Date(ms).toISOString().slice(0, 16).replace('T', ' ') + ' UTC';
function sizeText(v) { return v < 1e6 ? group(v) : v < 1e15 ? scaled(v, '') : '10^' + Math.floor(Math.log10(v)); }
function deviceText(d) {
    const b = (d || {}).body || {};
    if (!d) return 'none yet';
    const name = b.name || b.model || d.kind;
    return name + (b.threads ? ', ' + plural(b.threads, 'thread') : '') + (b.isa ? ', ' + b.isa : '');
}
function dataText() {
    const f = job.files || {}, t = f.train;
    if (!t && layered) return typeof (spec.data || {}).train === 'string' ? spec.data.train : '';
    if (!t) return spec.data ? 'handed through to the evaluator' : 'none: the evaluator has its own';
    const first = t.files === 1 ? t.first : typeof (spec.data || {}).train === 'string' ? spec.data.train : '';
    return scaled(t.bytes, 'B') + ' in ' + plural(t.files, 'file') + (first ? ': ' + first : '') +
           (f.valid && f.valid.files ? '; held out: ' + scaled(f.valid.bytes, 'B') + ' in ' + plural(f.valid.files, 'file') : known(f.valid_share) ? '; ' + f.valid_share * 100 + ' % of it held out' : '');
}

function heading() {
    const space = job.space || {}, budget = job.budget || {}, facts = [];
    const fact = (name, text) => text && facts.push(el('div', null, el('dt', null, name), el('dd', null, text)));
    fact('Space', typeof spec.space === 'string' ? spec.space + (known(space.size) ? ', ' + (space.exact ? '' : 'at most ') + sizeText(space.size) + ' candidates' : '')
        : (layered ? 'language models' : plural(Object.keys((spec.space || {}).knobs || {}).length, 'knob')) + (known(space.size) ? ', ' + (space.exact ? '' : 'at most ') + sizeText(space.size) + ' candidates' : ''));
    fact('Objectives', objectives.map(o => o.metric + (o.goal === 'max' ? ' (more)' : '')).join(', '));
    fact('Constraints', (spec.constraints || []).map(c => c.metric + (known(c.min) ? ' ≥ ' + number(c.min) : '') + (known(c.max) ? ' ≤ ' + number(c.max) : '')).join(', '));
    fact('Search', (job.strategy || '?') + ', seed ' + job.seed + (spec.search && spec.search.population ? ', population ' + spec.search.population : ''));
    fact('Device', deviceText(device));
    fact('Data', dataText());
    if (layered) fact('Training', [(spec.fidelity || {}).tokens && scaled(spec.fidelity.tokens, '') + ' tokens each', (spec.data || {}).context && 'context ' + spec.data.context,
                                   (spec.train || {}).batch && 'batch ' + spec.train.batch].filter(Boolean).join(', '));
    fact('Budget', [known(budget.evaluations) && plural(budget.evaluations, 'evaluation'), known(budget.hours) && plural(budget.hours, 'hour')].filter(Boolean).join(', ') || 'none');
    document.getElementById('head').append(
        el('div', {class: 'top'}, el('p', {class: 'over'}, 'Taut · search report'), startTheme()),
        el('h1', null, job.name), el('p', {class: 'status'}, el('span', {class: 'state ' + job.state}, job.state), job.reason ? ' ' + job.reason : '',
           el('span', {class: 'dim'}, ' job ' + job.id + ', submitted ' + dates(job.submitted_ms))),
        el('dl', {class: 'head'}, facts));
}

function tiles() {
    const list = [], tile = (name, value, more, cls) => {
        list.push(el('div', {class: 'tile ' + (cls || '')}, el('span', {class: 'name', title: name}, name), el('b', null, withUnit(value)), el('span', {class: 'dim'}, more || '\u00a0')));
    };
    const budget = job.budget || {};
    tile('Evaluations', group(job.evaluations), (known(budget.evaluations) ? 'of ' + group(budget.evaluations) + ', ' : '') + (failedCount ? failedCount + ' failed' : 'none failed'));
    tile('Front', group(data.front_size), data.front_size === 1 ? 'architecture' : layered ? 'architectures' : 'candidates');
    tile('Hypervolume', known(job.hypervolume) ? number(job.hypervolume) : '–', known(job.hypervolume) ? 'larger is better' : 'no reference point yet');
    for (const o of objectives) {
        const b = (job.best || {})[o.metric];
        tile('Best ' + o.metric, b ? metricText(o.metric, b.value, false, true) : '–', b ? 'trial ' + b.trial : 'no result');
    }
    tile('Time at work', duration(job.busy_s), job.evaluations ? duration(job.busy_s / job.evaluations) + ' an evaluation' : '');
    if (known(job.joules)) tile('Energy', scaled(job.joules, 'J'), known((job.rates || {}).watts) ? brief(job.rates.watts) + ' W while at work' : 'of training');
    else tile('Energy', 'not measured', 'no evaluator reported it', 'quiet');
    main.append(el('div', {class: 'tiles'}, list));
    if (data.notes.length) main.append(el('p', {class: 'note'}, data.notes.join(' ')));
    if (!front.length)
        main.append(el('p', {class: 'note big'}, job.evaluations ? 'No trial has succeeded so far: there is no front to draw.' + (failedCount ? ' What went wrong stands below.' : '')
            : 'This search has no results yet. Make the page again once there are some.'));
}

// ---- the front ----

function frontTable(parent) {
    const params = front.some(p => known(p.metrics.params)) && !objectives.some(o => o.metric === 'params');
    const columns = objectives.map(o => o.metric).concat(params ? ['params'] : []), sort = {by: objectives[0].metric, up: true}, body = el('tbody');
    let limit = front.length <= 15 ? 15 : 12;
    const draw = () => {
        const value = p => sort.by === 'trial' ? p.trial : p.metrics[sort.by];
        const sorted = front.slice().sort((a, b) => (sort.up ? 1 : -1) * ((known(value(a)) ? value(a) : Infinity) - (known(value(b)) ? value(b) : Infinity)));
        body.replaceChildren(...sorted.slice(0, limit).map(p => el('tr', {'data-trial': p.trial, tabindex: 0, onclick: () => choose(p.trial), onkeydown: e => { if (e.key === 'Enter') choose(p.trial); }},
            el('td', null, p.trial), columns.map(c => {
                const iv = p.intervals[c];
                return el('td', null, metricText(c, p.metrics[c], true), iv ? el('small', {class: 'dim'}, metricText(c, iv[0], true) + ' – ' + metricText(c, iv[1], true)) : null);
            }), el('td', {class: 'arch'}, el('code', null, p.text || p.arch.slice(0, 12))))));
        mark(chosen);
    };
    const mark = trial => { for (const r of body.children) r.classList.toggle('chosen', Number(r.dataset.trial) === trial); };
    listeners.push(mark);
    const head = name => el('th', {'aria-sort': null}, el('button', {type: 'button', onclick: () => {
        sort.up = sort.by === name ? !sort.up : true;
        sort.by = name;
        draw();
    }}, name, unitOf(name) && unitOf(name) !== 'B' ? el('small', {class: 'dim'}, ' ' + unitOf(name)) : null));
    parent.append(el('div', {class: 'scroll'}, el('table', {class: 'rows'}, el('thead', null, el('tr', null, head('trial'), columns.map(head), el('th', {class: 'arch'}, layered ? 'architecture' : 'knobs'))), body)));
    if (front.length > limit) {
        const more = el('button', {type: 'button', class: 'more', onclick: () => { limit = Infinity; draw(); more.remove(); }}, 'Show all ' + front.length + ' rows');
        parent.append(more);
    }
    draw();
}
function showFront() {
    const n = objectives.length;
    const s = section('front', 'The front', n === 1 ? 'The best result so far, among all of them in the order of their proposal.'
        : 'Trials that no other one beats in every objective. Whiskers are 95 % intervals; grey dots are the other trials. Point at a dot to see what it is, click it to follow it through the page.');
    const grid = el('div', {class: 'grid ' + (n === 2 || n === 1 ? 'one' : 'three')}), axes = objectives.map(metricAxis);
    s.append(grid);
    if (n === 1) place(grid, figure(null, (w, hook) => scatter(orderAxis, axes[0], Math.min(w, 820), hook)));
    for (let i = 0; i < n; i++)
        for (let j = i + 1; j < n; j++) place(grid, figure(null, (w, hook) => scatter(axes[j], axes[i], n === 2 ? Math.min(w, 820) : w, hook)));
    frontTable(s);
}

// ---- progress ----

function showProgress() {
    const hv = points.hypervolume, s = section('progress', 'Progress', hv.some(known)
        ? 'Hypervolume is the share of the objectives’ space that the front holds against a fixed reference point (the worst of the first results, a tenth further out); it only grows.'
        : 'Hypervolume has no reference point before the first ' + ((spec.search || {}).population || 48) + ' results.');
    const grid = el('div', {class: 'grid two'}), at = i => 'after evaluation ' + points.evaluation[i] + ', ' + duration(points.busy_s[i]);
    const o = {yTitle: 'hypervolume', yTick: v => tickText('', v), tip: at, value: number, area: true};
    s.append(grid);
    const time = points.busy_s.length && points.busy_s[points.busy_s.length - 1] > 7200 ? [3600, 'hours'] : points.busy_s.length && points.busy_s[points.busy_s.length - 1] > 180 ? [60, 'minutes'] : [1, 'seconds'];
    const byTime = {xTitle: time[1] + ' at work', xTick: v => String(parseFloat(v.toPrecision(4)))}, byNumber = {xTitle: 'evaluations', xTick: v => Number.isInteger(v) ? group(v) : ''};
    if (hv.some(known)) {
        place(grid, figure(null, w => lines([{x: points.evaluation, y: hv}], Object.assign({}, o, byNumber), w)),
              figure(null, w => lines([{x: points.busy_s.map(v => v / time[0]), y: hv}], Object.assign({}, o, byTime), w)));
    }
    const best = el('div', {class: 'grid three'});
    s.append(best);
    for (const q of objectives) {
        const y = points.best[q.metric] || [];
        if (!y.some(known)) continue;
        place(best, figure(null, w => lines([{x: points.evaluation, y, cls: 'second'}],
            Object.assign({yTitle: 'best ' + q.metric + (unitOf(q.metric) ? ', ' + unitOf(q.metric) : ''), yTick: v => tickText(q.metric, v), tip: at, value: v => metricText(q.metric, v), log: true, height: 190}, byNumber), w)));
    }
}

function showKnobs() {
    const model = parallelAxes();
    if (model.axes.length < 2 || !model.points.length) return;
    const s = section('knobs', 'Knobs and objectives', 'Each line is a trial; the strong ones are the front. ' + (layered ? 'Knobs of layers are means over the layers that have them. ' : '') +
        'Objective axes are turned so that better is ' + 'up (right where the axes lie).' + (model.axes.some(a => a.none) ? ' “None”: no layer has that knob.' : ''));
    place(s, figure(null, (w, hook) => parallel(model, w, hook), model.dropped ? plural(model.dropped, 'more knob') + ' that also vary are not drawn.' : null));
}

function showCards() {
    const s = section('architectures', layered ? 'The front’s architectures' : 'The front’s candidates', layered
        ? 'From the input at the top to the head at the bottom. A block’s width is its number of parameters, on one scale for all cards; a norm counts with the block behind it.' : null);
    cards(s);
}

// ---- learning curves ----

function curves(width, hook) {
    const mine = front.filter(p => p.detail && (p.detail.curve || []).length > 1), rest = data.curves, all = mine.map(p => p.detail.curve).concat(rest.map(c => c.curve));
    const height = Math.round(Math.max(280, Math.min(420, width * 0.42))), xs = all.flatMap(c => c.map(q => q[0])).filter(known), inner = mine.flatMap(p => p.detail.curve.map(q => q[1]));
    const f = frame(width, height, {scale: (a, b) => scale(xs.filter(v => v > 0), [], a, b, {pad: 0}), tick: v => scaled(v, '').replace(/\.0+(?=\D)/, ''), title: 'tokens trained on'},
                    {scale: (a, b) => scale(inner.length ? inner : all.flatMap(c => c.map(q => q[1])), [], a, b, {log: false}), tick: v => tickText('', v), title: layered ? 'training loss, nats per token' : 'loss'}, 'learning curves');
    const {x, y, plot, box, node} = f, cy = v => Math.max(box.top, Math.min(box.bottom, y(v)));
    const path = c => c.filter(q => known(q[1]) && (q[0] > 0 || !x.log)).map((q, i) => (i ? 'L' : 'M') + x(q[0]).toFixed(1) + ' ' + cy(q[1]).toFixed(1)).join('');
    plot.append(svg('path', {class: 'threads', d: rest.map(c => path(c.curve)).join(''), 'data-points': rest.length}));
    for (const p of mine) plot.append(svg('path', {class: 'thread', 'data-trial': p.trial, d: path(p.detail.curve)}));
    const over = svg('path', {class: 'thread hover'}), ring = svg('path', {class: 'thread chosen'});
    plot.append(over, ring);
    const curveOf = p => p && p.detail && p.detail.curve || p && (rest.find(c => c.trial === p.trial) || {}).curve;
    hook(trial => { const c = curveOf(byTrial.get(trial)); ring.setAttribute('d', c ? path(c) : ''); });
    const find = e => {
        const r = node.getBoundingClientRect(), px = (e.clientX - r.x) * width / r.width, py = (e.clientY - r.y) * height / r.height;
        let best = null, least = 16;
        for (const p of mine) for (const q of p.detail.curve) {
            const d = Math.hypot((x(q[0]) - px) * 0.5, cy(q[1]) - py);
            if (d < least) { least = d; best = p; }
        }
        return best;
    };
    node.addEventListener('pointermove', e => {
        const p = find(e);
        over.setAttribute('d', p ? path(p.detail.curve) : '');
        if (p) showTip(e.clientX, e.clientY, ...trialTip(p)); else hideTip();
    });
    node.addEventListener('pointerleave', () => { over.setAttribute('d', ''); hideTip(); });
    node.addEventListener('click', e => { const p = find(e); if (p) choose(p.trial); });
    return node;
}
function showCurves() {
    if (!front.some(p => p.detail && (p.detail.curve || []).length > 1) && !data.curves.length) return;
    const s = section('curves', 'Learning curves', (layered ? 'Training loss, each point the mean since the point before it' : 'Loss as the evaluator reported it') + '. Strong: the front; faint: ' + (data.curves.length ? data.curves.length + ' of the other trials.' : 'none of the others.'));
    place(s, figure(null, curves));
}

// ---- time and energy ----

function bars(list, value, text, title, width) {
    const height = 210, all = list.map(value).filter(known);
    const f = frame(width, height, {scale: (a, b) => scale(list.map(p => p.proposal + 1), [], a, b, {log: false, pad: 0.01}), tick: v => Number.isInteger(v) ? group(v) : '', title: 'proposal'},
                    {scale: (a, b) => scale(all, [], a, b, {zero: true, log: false}), tick: v => text(v), title}, title);
    const each = kind => list.filter(p => p.kind === kind && known(value(p))).map(p => 'M' + f.x(p.proposal + 1).toFixed(1) + ' ' + f.box.bottom + 'V' + f.y(value(p)).toFixed(1)).join('');
    const w = Math.max(1, Math.min(8, (f.box.right - f.box.left) / (list.length + 1) * 0.7));
    for (const kind of ['other', 'front', 'failed']) f.plot.append(svg('path', {class: 'bars ' + kind, 'stroke-width': w, d: each(kind)}));
    return f.node;
}
function showCost() {
    const s = section('cost', 'Time and energy'), seen = front.filter(p => known(p.busy)).concat(others.filter(p => known(p.busy))), sum = (l, f) => l.reduce((a, p) => a + (f(p) || 0), 0);
    const okTime = sum(seen, p => p.busy), failedTime = data.failed.busy_s, whole = seen.length === ok && data.failed.seen === data.failed.of, total = job.busy_s || 0;
    const rest = Math.max(0, total - okTime - failedTime), parts = whole ? [['good', 'succeeded', okTime, ok], ['bad', 'failed', failedTime, failedCount], ['quiet', 'given back or under way', rest, null]] : [];
    if (parts.length && total > 0 && okTime + failedTime <= total * 1.02) {
        const shown = parts.filter(p => p[2] > total * 0.0005);
        s.append(el('div', {class: 'split', role: 'img', 'aria-label': 'time at work by what came of it'}, shown.map(p => el('span', {class: p[0], style: 'flex-grow:' + p[2]}))),
                 el('ul', {class: 'legend'}, shown.map(p => el('li', {class: p[0]}, p[1] + (p[3] !== null ? ': ' + plural(p[3], 'trial') + ', ' : ': ') + duration(p[2]) + ' (' + (100 * p[2] / total).toFixed(p[2] / total > 0.0995 ? 0 : 1) + ' %)'))));
    } else if (seen.length) {
        s.append(el('p', {class: 'lead'}, duration(total) + ' with an evaluator at work. ' + (okTime + failedTime > total * 1.02 ? 'Several worked at once: the trials’ own times add up to ' + duration(okTime + failedTime) + '. ' : '') +
            'A trial that succeeded took ' + duration(okTime / seen.length) + ' on average' + (whole ? '.' : ' (of the ' + group(seen.length) + ' shown).')));
    }
    const list = seen.map(p => ({proposal: p.proposal, kind: p.front ? 'front' : 'other', busy: p.busy, joules: p.joules}))
        .concat(data.failed.trials.map(t => ({proposal: t[1], kind: 'failed', busy: t[2]}))).filter(p => known(p.proposal));
    const grid = el('div', {class: 'grid ' + (list.some(p => known(p.joules)) ? 'two' : 'one')});
    s.append(grid);
    if (list.length) place(grid, figure('Time of each trial', w => bars(list, p => p.busy, duration, 'time at work', w), 'Blue: the front; grey: others' + (failedCount ? '; orange: failed.' : '.')));
    if (list.some(p => known(p.joules))) place(grid, figure('Energy of each trial', w => bars(list, p => p.joules, v => scaled(v, 'J'), 'energy of training', w)));
    s.append(el('p', {class: 'lead'}, known(job.joules) ? 'Energy: ' + scaled(job.joules, 'J') + ' in all, read from the machine’s counters while training.'
        : 'Energy was not measured: no evaluator reported any. It needs energy counters that can be read (RAPL); taut doctor says whether this machine has them.'));
    const reasons = Object.entries(data.failed.reasons).sort((a, b) => b[1].count - a[1].count);
    if (failedCount) s.append(el('h3', null, plural(failedCount, 'failed trial')), el('div', {class: 'scroll'}, el('table', {class: 'rows plain'}, el('thead', null, el('tr', null, el('th', null, 'times'), el('th', {class: 'arch'}, 'why'), el('th', null, 'first: trial'))),
        el('tbody', null, reasons.map(([why, r]) => el('tr', null, el('td', null, group(r.count)), el('td', {class: 'arch'}, why), el('td', null, r.trial)))))));
}

// ---- what is measured ----

function showMethod() {
    const s = section('method', 'Measured and computed'), word = {paper: 'computed on paper', train: 'measured in training', profile: 'measured on the device', energy: 'measured, energy counters', custom: 'reported by the evaluator', proxy: 'a proxy'};
    const has = n => front.some(p => p.intervals[n]);
    s.append(el('div', {class: 'scroll'}, el('table', {class: 'rows plain'}, el('thead', null, el('tr', null, ['metric', 'what it is', 'unit', 'where from', '95 % interval'].map(t => el('th', {class: 'arch'}, t)))),
        el('tbody', null, data.metrics.map(m => el('tr', null, el('td', {class: 'arch'}, el('code', null, m.name)), el('td', {class: 'arch'}, m.text || (m.goal === 'max' ? 'more is better' : 'less is better')), el('td', {class: 'arch'}, m.unit),
            el('td', {class: 'arch'}, word[m.source] || m.source), el('td', {class: 'arch'}, has(m.name) ? 'yes' : m.source === 'paper' ? 'exact' : 'no')))))));
    const paragraphs = layered ? [
        'Computed on paper: parameters, FLOPs (matrix products and attention over the pairs that its mask lets through; a multiply-add counts 2), and bytes of weights and state in f32. They follow from the architecture alone and are exact.',
        'Trained: every architecture starts from weights drawn by the job’s seed and is trained on the same text for the same number of tokens; the held-out text is the same for all. The loss after training is one number from one run: it has no interval, and another seed would give another.',
        'Timed: threads are pinned, the clock is CLOCK_MONOTONIC_RAW, and each sample is at least 1000 times longer than the clock’s resolution. After a warm-up, samples of the candidate alternate with those of one fixed small network. The value is the median of at least 30 samples; the interval is the distribution-free 95 % interval of the median, from order statistics, and sampling goes on until it is within ±2 % or a time limit is reached. Samples are rejected only for outside causes (CPU time stolen, an involuntary switch), never for their value. Weights are random there, as times do not depend on them.'
    ] : ['Everything here is what the job’s own evaluator reported; where it sent intervals, they are drawn as it sent them.'];
    if (layered) paragraphs.push('The front compares medians alone. Where the whiskers of two trials overlap, their order in that metric is not certain.');
    s.append(el('div', {class: 'prose'}, paragraphs.map(t => el('p', null, t))));
    const list = data.devices;
    if (list.length) s.append(el('h3', null, list.length === 1 ? 'The device' : 'Devices'), el('table', {class: 'facts wide'}, list.flatMap(d => Object.entries(Object.assign({kind: d.kind}, d.body)).map(([k, v], i) =>
        el('tr', null, el('th', null, list.length > 1 && !i ? d.id + ': ' + k : k), el('td', null, typeof v === 'object' ? JSON.stringify(v) : String(v)))))));
}

// ---- the chosen trial, at the foot of the window ----

function chosenBar() {
    const bar = document.getElementById('chosen');
    listeners.push(trial => {
        const p = byTrial.get(trial);
        bar.hidden = !p;
        if (!p) return;
        const there = p.detail ? el('a', {href: '#trial-' + p.trial, onclick: () => {
            if (!document.getElementById('trial-' + p.trial) && showAllCards) showAllCards();
        }}, 'its card') : null;
        bar.replaceChildren(el('b', null, 'Trial ' + p.trial), el('span', {class: 'values'}, objectives.map(o => o.metric + ' ' + metricText(o.metric, p.metrics[o.metric])).join(' · ')), there || '',
                            el('button', {type: 'button', 'aria-label': 'no trial', onclick: () => choose(p.trial)}, '✕'));
    });
    document.addEventListener('keydown', e => { if (e.key === 'Escape' && chosen !== null) choose(chosen); });
}

heading();
tiles();
if (front.length) showFront();
if (points.evaluation.length && ok) showProgress();
showKnobs();
if (front.some(p => p.detail)) showCards();
showCurves();
if (job.evaluations) showCost();
showMethod();
chosenBar();
document.getElementById('foot').append(el('p', null, 'Made by taut ' + data.version + ' on ' + dates(data.made_ms) + '. Again: ', el('code', null, 'taut report ' + job.id + data.where)));
root.dataset.ready = '1';
