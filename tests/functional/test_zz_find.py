import time
from hypothesis import given, settings, Phase
from tests.functional.test_express_differential import *
def short(p):
    p=p.replace(BROWSER,b'[BROWSER]')
    return re.sub(rb'(AC|MM|ME)[0-9a-f]{32}|signature=[A-Za-z0-9_-]{30,50}',b'*',p)
def test_find(served):
    seen=[]
    n=[0]
    @settings(max_examples=3000, phases=[Phase.generate],derandomize=False,database=None)
    @given(conversations(served))
    def agree(pieces):
        if len(seen)>4: return
        n[0]+=1
        t=time.time()
        try:
            a=converse(served,0,pieces)
        except TimeoutError: a='timeout'
        t1=time.time()
        try:
            b=converse(served,1,pieces)
        except TimeoutError: b='timeout'
        t2=time.time()
        if t2-t>1 or a!=b:
            print('SLOW' if t2-t>1 else '', t1-t,t2-t1,'DIFF' if a!=b else '')
            for p in pieces: print('   >',short(p))
            for x in (a,b): print('   <',x if isinstance(x,str) else re.sub(rb'[^\n\x20-\x7e]+',b'.',x)[-600:])
            seen.append(1)
    try: agree()
    except BaseException as e: print(repr(e)[:300])
    print('examples',n, 'express', served.express)
