// Axes, dots, lines, and the tooltip.

const tip = document.getElementById('tip');
function showTip(x, y, ...content) {
    tip.replaceChildren(...content);
    tip.hidden = false;
    const w = tip.offsetWidth, h = tip.offsetHeight, right = root.clientWidth;
    tip.style.left = Math.max(8, x + 16 + w > right - 8 ? Math.min(x - w - 16, right - w - 8) : x + 16) + 'px';
    tip.style.top = Math.max(8, y + 16 + h > innerHeight - 8 ? y - h - 16 : y + 16) + 'px';
}
const hideTip = () => { tip.hidden = true; };
function trialTip(p) {
    const rows = objectives.map(o => {
        const iv = p.intervals[o.metric];
        return el('tr', null, el('th', null, o.metric), el('td', null, metricText(o.metric, p.metrics[o.metric])),
                  el('td', {class: 'dim'}, iv ? metricText(o.metric, iv[0], true) + ' – ' + metricText(o.metric, iv[1], true) : ''));
    });
    return [el('b', null, 'Trial ' + p.trial + (p.front ? ', on the front' : '')), el('code', null, p.text || p.arch || ''), el('table', null, rows)];
}

// ---- scales ----

function niceStep(span, n) {
    const raw = span / n, base = 10 ** Math.floor(Math.log10(raw)), f = raw / base;
    return base * (f < 1.5 ? 1 : f < 3 ? 2 : f < 7 ? 5 : 10);
}
function linearTicks(low, high, n) {
    const step = niceStep(high - low || 1, n), out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(i * step);
    return out;
}
function logTicks(low, high, n) {
    for (const marks of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
        const out = [];
        for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e++)
            for (const m of marks) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) out.push(m * 10 ** e);
        if (out.length <= n) return out.length >= 2 ? out : linearTicks(low, high, n);
    }
    const out = [], every = Math.ceil((Math.log10(high) - Math.log10(low)) / n);
    for (let e = Math.ceil(Math.log10(low)); 10 ** e <= high; e += every) out.push(10 ** e);
    return out;
}
// from..to are pixels. Values of the front are all inside; of the others the last few in a hundred may be beyond the edge.
function scale(inside, rest, from, to, opts) {
    const all = inside.filter(known), more = rest.filter(known).sort((a, b) => a - b);
    if (more.length) all.push(more[Math.floor(more.length * 0.03 * (more.length > 30))], more[Math.ceil((more.length - 1) * (more.length > 30 ? 0.97 : 1))]);
    let low = Math.min(...all), high = Math.max(...all);
    if (!all.length) [low, high] = [0, 1];
    if (low === high) { const pad = Math.abs(low) * 0.05 || 1; low -= pad; high += pad; }
    const log = (opts || {}).log !== false && low > 0 && high / low > 12;
    const f = log ? Math.log : v => v;
    let a = f(low), b = f(high);
    const pad = (opts || {}).pad === undefined ? 0.06 : opts.pad;
    if ((opts || {}).zero && !log) { a = Math.min(0, a); b += (b - a) * pad; } else { const w = (b - a) * pad; a -= w; b += w; }
    if (low >= 0 && !log && a < 0) a = 0;
    const s = v => from + (to - from) * (f(v) - a) / (b - a);
    s.ticks = n => log ? logTicks(Math.exp(a), Math.exp(b), n) : linearTicks(a, b, n);
    s.inside = v => known(v) && f(v) >= a - 1e-12 && f(v) <= b + 1e-12;
    s.log = log;
    return s;
}
function tickText(name, v) {
    const m = metricInfo[name] || {};
    if (v === 0) return '0';
    if (m.unit === 'B' || m.source === 'paper' || Math.abs(v) >= 1e4) return scaled(v, m.unit === 'B' ? 'B' : '').replace(/(\.\d*?)0+(?=\D|$)/, '$1').replace(/\.(?=\D|$)/, '');
    return String(parseFloat(v.toPrecision(4))).replace('-', '−');
}

// ---- a frame with axes: {node, x, y, plot} ----

function frame(width, height, xAxis, yAxis, label) {
    const box = {left: 54, right: width - 16, top: 28, bottom: height - 44};
    const node = svg('svg', {viewBox: '0 0 ' + width + ' ' + height, width, height, role: 'img', 'aria-label': label});
    const x = xAxis.scale(box.left, box.right), y = yAxis.scale(box.bottom, box.top);
    const grid = svg('g', {class: 'lattice'}), text = svg('g', {class: 'ticks'});
    const xTicks = x.ticks(Math.max(3, Math.floor(width / 90))), yTicks = y.ticks(Math.max(3, Math.floor(height / 55)));
    for (const v of yTicks) {
        grid.append(svg('path', {d: 'M' + box.left + ' ' + y(v) + 'H' + box.right}));
        text.append(svg('text', {x: box.left - 8, y: y(v) + 4, 'text-anchor': 'end'}, yAxis.tick(v)));
    }
    for (const v of xTicks) {
        grid.append(svg('path', {d: 'M' + x(v) + ' ' + box.top + 'V' + box.bottom}));
        text.append(svg('text', {x: x(v), y: box.bottom + 17, 'text-anchor': 'middle'}, xAxis.tick(v)));
    }
    text.append(svg('text', {class: 'title', x: 0, y: 12}, yAxis.title), svg('text', {class: 'title', x: box.right, y: height - 6, 'text-anchor': 'end'}, xAxis.title));
    const plot = svg('g');
    node.append(grid, svg('path', {class: 'axis', d: 'M' + box.left + ' ' + box.top + 'V' + box.bottom + 'H' + box.right}), text, plot);
    return {node, x, y, plot, box};
}
function metricAxis(o) {
    const name = o.metric, better = o.goal === 'max' ? 'more is better' : 'less is better';
    return {name, goal: o.goal, get: p => p.metrics[name], interval: p => p.intervals[name], tick: v => tickText(name, v),
            title: name + (unitOf(name) ? ', ' + unitOf(name) : '') + ' · ' + better};
}
const orderAxis = {name: 'evaluation', get: p => known(p.proposal) ? p.proposal + 1 : null, interval: () => null, tick: v => group(v), title: 'proposal'};

// ---- dots ----

// Where no other of these is better in both.
function pairFront(points, a, b) {
    const s = q => q.goal === 'max' ? -1 : 1;
    const list = points.filter(p => known(a.get(p)) && known(b.get(p))).map(p => [s(a) * a.get(p), s(b) * b.get(p), p]).sort((p, q) => p[0] - q[0] || p[1] - q[1]);
    const out = [];
    for (const p of list) if (!out.length || p[1] < out[out.length - 1][1]) out.push(p);
    return out.map(p => p[2]);
}
function scatter(a, b, width, hook) {
    const height = Math.round(Math.max(260, Math.min(380, width * 0.78)));
    const span = q => (from, to) => {
        const inside = front.map(q.get);
        for (const p of front) { const iv = q.interval(p); if (iv) inside.push(iv[0], iv[1]); }
        return scale(inside, others.map(q.get), from, to);
    };
    const f = frame(width, height, Object.assign({scale: span(a)}, a), Object.assign({scale: span(b)}, b), b.name + ' against ' + a.name);
    const {x, y, plot, box} = f, seen = others.filter(p => x.inside(a.get(p)) && y.inside(b.get(p)));
    const beyond = others.filter(p => known(a.get(p)) && known(b.get(p))).length - seen.length;
    plot.append(svg('path', {class: 'faint', 'data-points': seen.length, d: seen.map(p => 'M' + x(a.get(p)).toFixed(1) + ' ' + y(b.get(p)).toFixed(1) + 'h0').join('')}));
    for (const c of data.job.job.constraints || []) {
        for (const bound of [c.max, c.min].filter(known)) {
            if (c.metric === a.name && x.inside(bound)) plot.append(svg('path', {class: 'bound', d: 'M' + x(bound) + ' ' + box.top + 'V' + box.bottom}));
            if (c.metric === b.name && y.inside(bound)) plot.append(svg('path', {class: 'bound', d: 'M' + box.left + ' ' + y(bound) + 'H' + box.right}));
        }
    }
    if (a.goal && b.goal) {
        const line = pairFront(front, a, b);
        plot.append(svg('path', {class: 'stairs', d: line.map((p, i) => (i ? 'H' + x(a.get(p)) + 'V' + y(b.get(p)) : 'M' + x(a.get(p)) + ' ' + y(b.get(p)))).join('')}));
    }
    const dots = front.filter(p => known(a.get(p)) && known(b.get(p))).map(p => {
        const cx = x(a.get(p)), cy = y(b.get(p)), ia = a.interval(p), ib = b.interval(p), g = svg('g', {class: 'point', 'data-trial': p.trial});
        if (ia) g.append(svg('path', {class: 'whisker', d: 'M' + x(ia[0]) + ' ' + cy + 'H' + x(ia[1]) + 'M' + x(ia[0]) + ' ' + (cy - 3) + 'v6M' + x(ia[1]) + ' ' + (cy - 3) + 'v6'}));
        if (ib) g.append(svg('path', {class: 'whisker', d: 'M' + cx + ' ' + y(ib[0]) + 'V' + y(ib[1]) + 'M' + (cx - 3) + ' ' + y(ib[0]) + 'h6M' + (cx - 3) + ' ' + y(ib[1]) + 'h6'}));
        g.append(svg('circle', {cx, cy, r: 4.2, tabindex: 0, 'aria-label': 'trial ' + p.trial + ', ' + a.name + ' ' + metricText(a.name, a.get(p)) + ', ' + b.name + ' ' +
                                metricText(b.name, b.get(p)),
                                onfocus: e => { const r = e.target.getBoundingClientRect(); showTip(r.x, r.y, ...trialTip(p)); }, onblur: hideTip,
                                onkeydown: e => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); choose(p.trial); } }}));
        return g;
    });
    const ring = svg('circle', {class: 'ring', r: 8, visibility: 'hidden'}), halo = svg('circle', {class: 'halo', r: 8, visibility: 'hidden'});
    plot.append(...dots, ring, halo);
    const put = (c, p) => {
        const there = p && known(a.get(p)) && known(b.get(p)) && x.inside(a.get(p)) && y.inside(b.get(p));
        c.setAttribute('visibility', there ? 'visible' : 'hidden');
        if (there) { c.setAttribute('cx', x(a.get(p))); c.setAttribute('cy', y(b.get(p))); }
    };
    hook(trial => put(ring, byTrial.get(trial)));
    nearest(f, front.concat(seen), p => [x(a.get(p)), y(b.get(p))], p => put(halo, p));
    return beyond ? el('div', null, f.node, el('p', {class: 'caption'}, plural(beyond, 'trial') + (beyond === 1 ? ' lies' : ' lie') + ' beyond the frame.')) : f.node;
}
// The pointer takes the nearest point within reach: those of the front win over others about as near.
function nearest(f, points, at, mark) {
    const find = e => {
        const r = f.node.getBoundingClientRect(), k = r.width / f.node.viewBox.baseVal.width || 1, px = (e.clientX - r.x) / k, py = (e.clientY - r.y) / k;
        let best = null, least = (e.pointerType === 'touch' ? 34 : 22) ** 2;
        for (const p of points) {
            const [qx, qy] = at(p), d = ((qx - px) ** 2 + (qy - py) ** 2) * (p.front ? 0.4 : 1);
            if (d < least) { least = d; best = p; }
        }
        return best;
    };
    f.node.addEventListener('pointermove', e => {
        const p = find(e);
        mark(p);
        f.node.style.cursor = p ? 'pointer' : '';
        if (p) showTip(e.clientX, e.clientY, ...trialTip(p)); else hideTip();
    });
    f.node.addEventListener('pointerleave', () => { mark(null); hideTip(); });
    f.node.addEventListener('click', e => {
        const p = find(e);
        if (!p) return;
        choose(p.trial);
        showTip(e.clientX, e.clientY, ...trialTip(p));
    });
}

// ---- lines: series [{name, cls, x: [], y: []}], drawn as steps ----

function lines(series, o, width) {
    const height = o.height || Math.round(Math.max(200, Math.min(280, width * 0.55)));
    const all = k => series.flatMap(s => s[k].filter(known));
    const f = frame(width, height, {scale: (a, b) => scale(all('x'), [], a, b, {pad: 0, log: false}), tick: o.xTick, title: o.xTitle},
                    {scale: (a, b) => scale(all('y'), [], a, b, {log: o.log || false}), tick: o.yTick, title: o.yTitle}, o.yTitle + ' against ' + o.xTitle);
    const {x, y, plot, box} = f;
    for (const s of series) {
        let d = '', last = null;
        s.x.forEach((v, i) => {
            if (!known(s.y[i]) || !known(v)) return;
            d += last === null ? 'M' + x(v).toFixed(1) + ' ' + y(s.y[i]).toFixed(1) : 'H' + x(v).toFixed(1) + 'V' + y(s.y[i]).toFixed(1);
            last = i;
        });
        if (o.area && d) {
            const first = s.x.find((v, i) => known(s.y[i]));
            plot.append(svg('path', {class: 'area', d: d + 'V' + box.bottom + 'H' + x(first) + 'Z'}));
        }
        plot.append(svg('path', {class: 'line ' + (s.cls || ''), d, 'data-points': s.y.filter(known).length}));
        if (last !== null) plot.append(svg('circle', {class: 'end', cx: x(s.x[last]), cy: y(s.y[last]), r: 3.5}));
    }
    const cross = svg('path', {class: 'cross'}), s = series[0];
    plot.append(cross);
    f.node.addEventListener('pointermove', e => {
        const r = f.node.getBoundingClientRect(), px = (e.clientX - r.x) * width / r.width;
        let best = -1;
        s.x.forEach((v, i) => { if (known(s.y[i]) && (best < 0 || Math.abs(x(v) - px) < Math.abs(x(s.x[best]) - px))) best = i; });
        if (best < 0) return;
        cross.setAttribute('d', 'M' + x(s.x[best]) + ' ' + box.top + 'V' + box.bottom);
        showTip(e.clientX, e.clientY, el('b', null, o.tip(best)), el('span', null, o.value(s.y[best])));
    });
    f.node.addEventListener('pointerleave', () => { cross.setAttribute('d', ''); hideTip(); });
    return f.node;
}
