// What the search is, and what it has come to in a few numbers.

const job = data.job, spec = job.job || {}, space = job.space || {}, budget = job.budget || {};
const layered = space.type === 'lm', points = data.progress.points;
const succeeded = (job.trials || {}).ok || 0, failures = data.failed.of;
const dateText = ms => new Date(ms).toISOString().slice(0, 16).replace('T', ' ') + ' UTC';

function spaceText() {
    const what = space.problem ? 'problem ' + space.problem : typeof spec.space === 'string' ? spec.space
        : layered ? 'language models' : plural(Object.keys((spec.space || {}).knobs || {}).length, 'knob');
    if (!known(space.size)) return what;
    const size = space.size < 1e6 ? group(space.size) : space.size < 1e15 ? scaled(space.size, '') : '10^' + Math.floor(Math.log10(space.size));
    return what + ', ' + (space.exact ? '' : 'at most ') + size + ' candidates';
}
function deviceText() {
    const d = data.devices.find(v => v.id === (job.target || {}).device) || data.devices[0], body = (d || {}).body || {};
    if (!d) return 'none yet';
    return [body.name || body.model || d.kind, body.threads && plural(body.threads, 'thread'), body.isa].filter(Boolean).join(', ');
}
function dataText() {
    const {train, valid, valid_share: share} = job.files || {}, given = (spec.data || {}).train;
    if (!train && layered) return typeof given === 'string' ? given : '';
    if (!train) return spec.data ? 'handed through to the evaluator' : 'the evaluator’s own';
    const where = train.files === 1 ? train.first : typeof given === 'string' ? given : '';
    const files = f => scaled(f.bytes, 'B') + ' in ' + plural(f.files, 'file');
    return files(train) + (where ? ': ' + where : '') +
           (valid && valid.files ? '; held out: ' + files(valid) : known(share) ? '; the last ' + brief(share * 100) + '\u202f% of each held out' : '');
}
function constraintText(c) {
    return c.metric + (known(c.min) ? ' ≥ ' + metricText(c.metric, c.min) : '') + (known(c.max) ? ' ≤ ' + metricText(c.metric, c.max) : '');
}

function proposerText(by) {
    return by ? ': ' + by.to + ' since proposal ' + by.proposal + (known(by.rho) ? ' (rank correlation ' + by.rho.toFixed(2) + ')' : '') : '';
}

function heading() {
    const search = spec.search || {}, train = spec.train || {}, {tokens} = spec.fidelity || {}, {context} = spec.data || {};
    const facts = [
        ['Space', spaceText()],
        ['Objectives', objectives.map(o => o.metric + (o.goal === 'max' ? ' (more is better)' : '')).join(', ')],
        ['Constraints', (spec.constraints || []).map(constraintText).join(', ')],
        ['Search', [job.strategy + proposerText(job.proposes), 'seed ' + job.seed, search.population && 'population ' + search.population].filter(Boolean).join(', ')],
        ['Device', deviceText()],
        ['Data', dataText()],
        ['Training', layered && [tokens && scaled(tokens, '') + ' tokens each', context && 'context ' + context, train.batch && 'batch ' + train.batch]
            .filter(Boolean).join(', ')],
        ['Supernet', job.supernet && (job.supernet.state === 'ok' ? 'trained on ' + scaled(job.supernet.of, '') + ' tokens in ' + duration(job.supernet.busy_s)
            : job.supernet.state === 'failed' ? 'cannot be trained: ' + job.supernet.error : 'not trained yet')],
        ['Budget', [known(budget.evaluations) && plural(budget.evaluations, 'evaluation'),
                    known(budget.hours) && plural(budget.hours, 'hour')].filter(Boolean).join(', ') || 'unbounded'],
    ];
    document.getElementById('head').append(
        el('div', {class: 'top'}, el('p', {class: 'over'}, 'Taut · search report'), themeButton()),
        el('h1', null, job.name),
        el('p', {class: 'status'}, el('span', {class: 'state ' + job.state}, job.state), job.reason ? ' ' + job.reason + ' · ' : ' ',
           el('span', {class: 'dim'}, 'job ' + job.id + ', submitted ' + dateText(job.submitted_ms))),
        el('dl', {class: 'head'}, facts.filter(f => f[1]).map(f => el('div', null, el('dt', null, f[0]), el('dd', null, f[1])))));
}

function tile(name, value, more, cls) {
    return el('div', {class: 'tile ' + (cls || '')}, el('span', {class: 'name', title: name}, name), el('b', null, withUnit(value)),
              el('span', {class: 'dim'}, more || '\u00a0'));
}
function tiles() {
    const n = job.evaluations, hv = job.hypervolume, watts = (job.rates || {}).watts;
    const of = known(budget.evaluations) ? 'of ' + group(budget.evaluations) + ', ' : '';
    main.append(el('div', {class: 'tiles'},
        tile('Evaluations', group(n), of + (failures ? group(failures) : 'none') + ' failed'),
        tile('Front', group(data.front_size), (layered ? 'architecture' : 'candidate') + (data.front_size === 1 ? '' : 's')),
        tile('Hypervolume', known(hv) ? brief(hv) : '–', known(hv) ? 'larger is better' : 'no reference point yet'),
        objectives.map(o => {
            const best = (job.best || {})[o.metric];
            return tile(o.metric, best ? metricText(o.metric, best.value, false, true) : '–', best ? 'best: trial ' + best.trial : 'no result');
        }),
        tile('Time at work', duration(job.busy_s), n ? duration(job.busy_s / n) + ' each' : ''),
        known(job.joules) ? tile('Energy', scaled(job.joules, 'J'), known(watts) ? brief(watts) + '\u202fW while at work' : 'of training')
            : tile('Energy', 'not measured', 'not reported', 'quiet')));
    if (data.notes.length) main.append(el('p', {class: 'note'}, data.notes.join(' ')));
    if (front.length) return;
    main.append(el('p', {class: 'note big'}, !n ? 'This search has no results yet. Make the page again once there are some.'
        : 'No trial has succeeded so far: there is no front to draw.' + (failures ? ' What went wrong stands below.' : '')));
}
