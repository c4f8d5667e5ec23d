// How the search went: hypervolume, best values, learning curves.

// In what a time axis up to s is: [seconds, name].
const timeUnit = s => s > 7200 ? [3600, 'hours'] : s > 180 ? [60, 'minutes'] : [1, 'seconds'];

function showProgress() {
    const hv = points.hypervolume, busy = points.busy_s, last = busy[busy.length - 1], shown = hv.some(known);
    const [length, name] = timeUnit(last);
    const s = section('progress', 'Progress', shown
        ? 'Hypervolume: how much of the objectives’ space the front dominates, up to a fixed reference point (the worst of the first ' +
          'results, a tenth further out). It only grows.'
        : 'Hypervolume has no reference point before the first ' + ((spec.search || {}).population || 48) + ' results.');
    const tip = i => 'after evaluation ' + group(points.evaluation[i]) + ', ' + duration(busy[i]);
    const byNumber = {xTitle: 'evaluations', xTick: wholeTick, tip};
    const byTime = {xTitle: name + ' at work', xTick: plainTick, tip};
    const volume = {yTitle: 'hypervolume', yTick: v => tickText('', v), value: number, area: true};
    if (shown) {
        const grid = el('div', {class: 'grid two'});
        s.append(grid);
        place(grid, figure(null, w => lines({x: points.evaluation, y: hv}, {...volume, ...byNumber}, w)),
              figure(null, w => lines({x: busy.map(v => v / length), y: hv}, {...volume, ...byTime}, w)));
    }
    const grid = el('div', {class: 'grid three'});
    s.append(grid);
    for (const o of objectives) {
        const y = points.best[o.metric] || [], unit = unitOf(o.metric);
        const of = {yTitle: 'best ' + o.metric + (unit ? ', ' + unit : ''), yTick: v => tickText(o.metric, v), value: v => metricText(o.metric, v),
                    log: true, height: 190, cls: 'second', ...byNumber};
        if (y.some(known)) place(grid, figure(null, w => lines({x: points.evaluation, y}, of, w)));
    }
}

function showKnobs() {
    const model = parallelAxes();
    if (model.axes.length < 2 || !model.points.length) return;
    const s = section('knobs', 'Knobs and objectives', 'Each line is a trial; the blue ones are the front. ' +
        (layered ? 'Knobs of layers are means over the layers that have them, “share” is the share of layers of that type. ' : '') +
        'Objectives are turned so that better is up (on a narrow page: right).');
    place(s, figure(null, (w, hook) => parallel(model, w, hook),
                    model.dropped ? plural(model.dropped, 'more knob') + ' that also vary are not drawn.' : null));
}

// ---- learning curves: [[tokens, loss] …] ----

const curveOf = p => (p && p.detail && p.detail.curve) || (p && (data.curves.find(c => c.trial === p.trial) || {}).curve) || null;
const withCurve = front.filter(p => (curveOf(p) || []).length > 1);
function curves(width, hook) {
    const height = Math.round(Math.max(280, Math.min(420, width * 0.42))), rest = data.curves.map(c => c.curve), mine = withCurve.map(curveOf);
    const tokens = mine.concat(rest).flatMap(c => c.map(q => q[0])).filter(v => v > 0);
    const losses = (mine.length ? mine : rest).flatMap(c => c.map(q => q[1]));
    const xAxis = {scale: (a, b) => scale(tokens, [], a, b, {pad: 0}), tick: v => scaled(v, '').replace(/\.0+(?=\D)/, ''), title: 'tokens trained on'};
    const title = layered ? 'training loss, nats per token' : 'loss';
    const yAxis = {scale: (a, b) => scale(losses, [], a, b, {log: false}), tick: v => tickText('', v), title};
    const {node, x, y, plot, box} = frame(width, height, xAxis, yAxis, 'learning curves');
    const at = q => [x(q[0]), Math.max(box.top, Math.min(box.bottom, y(q[1])))];
    const path = c => pathOf(c.filter(q => known(q[1]) && q[0] > 0).map(at));
    const opacity = strength(withCurve.length), over = svg('path', {class: 'thread hover'}), marked = svg('path', {class: 'thread chosen'});
    plot.append(svg('path', {class: 'threads', d: rest.map(path).join(''), 'data-points': rest.length}),
                ...withCurve.map(p => svg('path', {class: 'thread', opacity, 'data-trial': p.trial, d: path(curveOf(p))})), over, marked);
    hook(trial => { const c = curveOf(byTrial.get(trial)); marked.setAttribute('d', c ? path(c) : ''); });
    follow(node, (px, py) => {
        let best = null, least = 16;
        for (const p of withCurve) for (const q of curveOf(p)) {
            const [qx, qy] = at(q), d = Math.hypot((qx - px) * 0.5, qy - py);
            if (d < least) { least = d; best = p; }
        }
        return best;
    }, p => over.setAttribute('d', p ? path(curveOf(p)) : ''));
    return node;
}
function showCurves() {
    if (!withCurve.length && !data.curves.length) return;
    const what = layered ? 'Training loss, each point the mean since the point before it' : 'Loss as the evaluator reported it';
    const s = section('curves', 'Learning curves', what +
        '. Blue: the front' + (data.curves.length ? '; grey: ' + group(data.curves.length) + ' of the other trials.' : '.'));
    place(s, figure(null, curves));
}
