// What it took, what failed, and where each number comes from.

function bars(list, value, text, title, width) {
    const xAxis = {scale: (a, b) => scale(list.map(p => p.proposal + 1), [], a, b, {log: false, pad: 0.01}), tick: wholeTick, title: 'proposal'};
    const yAxis = {scale: (a, b) => scale(list.map(value), [], a, b, {zero: true, log: false}), tick: text, title};
    const {node, x, y, plot, box} = frame(width, 210, xAxis, yAxis, title);
    const thick = Math.max(1, Math.min(8, (box.right - box.left) / (list.length + 1) * 0.7));
    for (const kind of ['other', 'front', 'failed']) {
        const mine = list.filter(p => p.kind === kind && known(value(p)));
        const d = mine.map(p => 'M' + px(x(p.proposal + 1)) + ' ' + box.bottom + 'V' + px(y(value(p)))).join('');
        plot.append(svg('path', {class: 'bars ' + kind, 'stroke-width': thick, d}));
    }
    return node;
}
// Time at work by what came of it; in words where trials overlapped or not all of them are in the page.
function timeByOutcome(seen) {
    const total = job.busy_s || 0, share = v => brief(100 * v / total) + '\u202f%', good = seen.reduce((a, p) => a + p.busy, 0), bad = data.failed.busy_s;
    if (seen.length === succeeded && data.failed.seen === failures && total > 0 && good + bad <= total * 1.02) {
        const parts = [['good', 'succeeded: ' + plural(succeeded, 'trial') + ', ', good], ['bad', 'failed: ' + plural(failures, 'trial') + ', ', bad],
                       ['quiet', 'given back, or under way: ', Math.max(0, total - good - bad)]].filter(p => p[2] > total * 0.0005);
        return [el('div', {class: 'split', 'aria-hidden': 'true'}, parts.map(p => el('span', {class: p[0], style: 'flex-grow:' + px(1000 * p[2] / total)}))),
                el('ul', {class: 'legend'}, parts.map(p => el('li', {class: p[0]}, p[1] + duration(p[2]) + ' (' + share(p[2]) + ')')))];
    }
    const overlap = good + bad > total * 1.02 ? ' Several worked at once: the trials’ own times add up to ' + duration(good + bad) + '.' : '';
    const some = seen.length < succeeded ? ' (of the ' + group(seen.length) + ' shown).' : '.';
    const mean = seen.length ? ' A trial that succeeded took ' + duration(good / seen.length) + ' on average' + some : '';
    return [el('p', {class: 'lead'}, duration(total) + ' with an evaluator at work.' + overlap + mean)];
}
const NO_COUNTERS = ' It needs counters (RAPL) that can be read; “taut doctor” says whether this machine has them.';
function energyText() {
    if (!known(job.joules)) return 'Energy was not measured: no evaluator reported any.' + (layered ? NO_COUNTERS : '');
    const how = layered ? 'read from the machine’s counters while training.' : 'as the evaluator reported it.';
    return 'Energy: ' + scaled(job.joules, 'J') + ' in all, ' + how;
}
function showCost() {
    const s = section('cost', 'Time and energy'), seen = front.concat(others).filter(p => known(p.busy));
    const list = seen.map(p => ({proposal: p.proposal, kind: p.front ? 'front' : 'other', busy: p.busy, joules: p.joules}))
        .concat(data.failed.trials.map(t => ({proposal: t[1], kind: 'failed', busy: t[2]}))).filter(p => known(p.proposal));
    const energy = list.some(p => known(p.joules)), grid = el('div', {class: 'grid ' + (energy ? 'two' : 'one')});
    s.append(...timeByOutcome(seen), grid);
    const legend = 'Blue: the front; grey: others' + (failures ? '; orange: failed.' : '.');
    const [length, name] = timeUnit(Math.max(...list.map(p => p.busy || 0)));
    if (list.some(p => known(p.busy)))
        place(grid, figure(null, w => bars(list, p => p.busy / length, plainTick, 'time of each trial, ' + name, w), legend));
    if (energy) place(grid, figure(null, w => bars(list, p => p.joules, v => scaled(v, 'J'), 'energy of each trial, J', w), legend));
    s.append(el('p', {class: 'lead'}, energyText()));
    if (!failures) return;
    const reasons = Object.entries(data.failed.reasons).sort((a, b) => b[1].count - a[1].count);
    const cell = text => el('td', {class: 'text'}, text);
    s.append(el('h3', null, plural(failures, 'failed trial')),
             table('plain', [el('th', null, 'times'), el('th', {class: 'text'}, 'why'), el('th', {class: 'text'}, 'first')],
                   el('tbody', null, reasons.map(([why, r]) => el('tr', null, el('td', null, group(r.count)), cell(why), cell('trial ' + r.trial))))));
}

// ---- where numbers come from ----

const SOURCES = {paper: 'computed on paper', train: 'measured in training', profile: 'measured on the device', energy: 'energy counters',
                 custom: 'the evaluator’s report', proxy: 'a proxy'};
const ON_PAPER = 'Computed on paper: parameters, FLOPs (matrix products, and attention over the pairs that its mask lets through; a ' +
    'multiply-add counts 2) and bytes of weights and state in f32. They follow from the architecture alone and are exact.';
const TRAINED = 'Trained: every architecture starts from weights drawn by the job’s seed and is trained on the same text for the same ' +
    'number of tokens; the held-out text is the same for all. The loss after training is one number from one run: it has no ' +
    'interval, and another seed would give another.';
const TIMED = 'Timed: threads are pinned, the clock is CLOCK_MONOTONIC_RAW, and each sample is at least 1000 times as long as the ' +
    'clock’s resolution. After a warm-up, samples of the candidate alternate with those of one fixed small network. The value' +
    ' is the median of at least 30 samples; the interval is the distribution-free 95\u202f% interval of the median, from ' +
    'order statistics, and sampling goes on until it is within ±2\u202f% or a time limit is reached. Samples are rejected ' +
    'only for causes from outside (CPU time stolen, an involuntary switch), never for their value; where nearly all would be, they ' +
    'are kept and counted as disturbed. “Of the anchor” is the ratio to that fixed network.';
const COMPARED = 'The front compares medians alone. Where the whiskers of two trials overlap, their order in that metric is not certain.';
const REPORTED = 'Everything here is what the job’s own evaluator reported; where it sent intervals, they are drawn as it sent them. The ' +
    'front compares medians alone.';

function showMethod() {
    const s = section('method', 'Measured and computed'), cell = text => el('td', {class: 'text'}, text);
    const interval = m => front.some(p => p.intervals[m.name]) ? 'yes' : m.source === 'paper' ? 'exact' : 'no';
    const row = m => el('tr', null, cell(el('code', null, m.name)), cell(m.text || (m.goal === 'max' ? 'more is better' : 'less is better')),
                        cell(m.unit || '–'), cell(SOURCES[m.source]), cell(interval(m)));
    const heads = ['metric', 'what it is', 'unit', 'where from', '95\u202f% interval'];
    s.append(table('plain', heads.map(t => el('th', {class: 'text'}, t)), el('tbody', null, data.metrics.map(row))),
             el('div', {class: 'prose'}, (layered ? [ON_PAPER, TRAINED, TIMED, COMPARED] : [REPORTED]).map(t => el('p', null, t))));
    if (!data.devices.length) return;
    const several = data.devices.length > 1, text = v => typeof v === 'object' ? JSON.stringify(v) : String(v);
    const rows = data.devices.flatMap(d => Object.entries({kind: d.kind, ...d.body}).map(([k, v], i) =>
        el('tr', null, el('th', null, several && !i ? d.id + ': ' + k : k), el('td', null, text(v)))));
    s.append(el('h3', null, several ? 'Devices' : 'The device'), el('table', {class: 'facts wide'}, rows));
}
