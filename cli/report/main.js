// The page from top to bottom.

// The chosen trial, at the foot of the window.
function chosenBar() {
    const bar = document.getElementById('chosen');
    listeners.push(trial => {
        const p = byTrial.get(trial);
        bar.hidden = !p;
        if (!p) return;
        const show = () => { if (!document.getElementById('trial-' + p.trial) && showAllCards) showAllCards(); };
        bar.replaceChildren(el('b', null, 'Trial ' + p.trial),
                            el('span', {class: 'values'}, objectives.map(o => o.metric + ' ' + metricText(o.metric, p.metrics[o.metric])).join(' · ')),
                            p.detail ? el('a', {href: '#trial-' + p.trial, onclick: show}, 'its card') : '',
                            el('button', {type: 'button', 'aria-label': 'no trial', onclick: () => choose(p.trial)}, '✕'));
    });
    document.addEventListener('keydown', e => { if (e.key === 'Escape' && chosen !== null) choose(chosen); });
}

heading();
tiles();
if (front.length) showFront();
if (succeeded && points.evaluation.length) showProgress();
showKnobs();
if (front.some(p => p.detail)) showCards();
showCurves();
showAudit();
if (job.evaluations) showCost();
showMethod();
chosenBar();
document.getElementById('foot').append(el('p', null, 'Made by taut ' + data.version + ' on ' + dateText(data.made_ms) + '. Again: ',
                                          el('code', null, 'taut report ' + job.id + data.where)));
root.dataset.ready = '1';
